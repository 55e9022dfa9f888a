"""Read arrays in memory. Not a kind that a spec can name: only a Python program has arrays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final, Self, final

import numpy as np

from dbp.data.array_dataset import ArrayDataset, TargetKind, combine
from dbp.data.dataset import Array, DataInfo, Dataset, Reader
from dbp.data.rows import MemoryRows, RowsInfo
from dbp.errors import InvalidData

ARRAYS: Final = "arrays"  # kind in the spec of a run that was trained on arrays

_ACCEPTED: Final = "accepted: booleans, integers and floats of at most 8 bytes"


@final
@dataclass(frozen=True, eq=False)
class ArrayReader(Reader):
    """Inputs (n, ...), targets (n,) or (n, ...), and perhaps weights (n,), as arrays."""

    inputs: Array
    targets: Array
    weights: Array | None = None
    target_kind: TargetKind = "auto"
    class_names: tuple[str, ...] = ()

    @classmethod
    def of(cls, inputs: object, targets: object, weights: object = None) -> Self:
        """Convert what numpy takes for arrays of numbers; raises InvalidData."""
        return cls(
            numbers("inputs", inputs),
            numbers("targets", targets),
            None if weights is None else numbers("weights", weights),
        )

    def of_kind(self, kind: str) -> ArrayReader:
        """Return the reader with its targets taken as ``kind``: what the loss learns from."""
        return replace(self, target_kind="class" if kind == "class" else "values")

    def inspect(self) -> DataInfo:
        weights = None if self.weights is None else _info("weights", self.weights)
        return combine(
            _info("inputs", self.inputs),
            _info("targets", self.targets),
            self.target_kind,
            class_names=self.class_names,
            weights=weights,
        )

    def open(self) -> Dataset:
        """Check that all numbers are finite; the arrays are not copied."""
        self.inspect()
        return ArrayDataset(
            MemoryRows("inputs", self.inputs),
            MemoryRows("targets", self.targets),
            target_kind=self.target_kind,
            class_names=self.class_names,
            weights=None if self.weights is None else MemoryRows("weights", self.weights),
        )

    def digest(self) -> str:
        """Return the SHA-256 of all arrays, their types and shapes, in hexadecimal."""
        digest = hashlib.sha256()
        for array in (self.inputs, self.targets, self.weights):
            if array is not None:
                digest.update(f"{array.dtype.str} {array.shape}\n".encode())
                digest.update(array.reshape(-1).view(np.uint8).data)
        return digest.hexdigest()


def numbers(name: str, value: object) -> Array:
    """Return an array of numbers, C-contiguous and in native byte order; InvalidData.

    An array that is so already is not copied.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise InvalidData(f"{name}: a masked array; fill its gaps, or leave those samples out")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InvalidData(f"{name}: numpy makes no array of it: {error}") from error
    stored = array.dtype
    if stored.kind not in "biuf" or stored.itemsize > 8:
        raise InvalidData(f"{name}: type {stored}; {_ACCEPTED}{_remedy(name, stored.kind)}")
    if array.ndim == 0:
        raise InvalidData(f"{name}: a single number, expected an array with a row per sample")
    return np.ascontiguousarray(array, stored.newbyteorder("="))


def _remedy(name: str, kind: str) -> str:
    if kind in "US":
        return f"; number the classes: numpy.unique({name}, return_inverse=True)[1]"
    return "; convert it with numpy.asarray(..., dtype=float)" if kind == "O" else ""


def _info(name: str, array: Array) -> RowsInfo:
    return RowsInfo(name, array.shape, array.dtype)
