"""Check that the numbers of a data set fit the model's floating type, before training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dbp.data.dataset import Array, Dataset, Indices
from dbp.data.quoting import hint, shown
from dbp.data.rows import IN_MEMORY_BYTES
from dbp.errors import InvalidData

_BLOCK_BYTES: Final = 16 * 2**20

_REMEDY: Final = 'train in float64 (train.dtype = "float64")'


def check_representable(dataset: Dataset, dtype: npt.DTypeLike, *, inputs: bool) -> None:
    """Raise InvalidData naming the first target, weight or input that overflows in ``dtype``.

    Args:
        dataset: Its inputs, targets and weights of up to 256 MiB each are read; larger inputs
            are checked in each mini-batch.
        dtype: Of the model.
        inputs: Whether inputs are taken as they are, not scaled.
    """
    narrow = np.dtype(dtype)
    if narrow.itemsize >= np.dtype(np.float64).itemsize:
        return
    info, samples = dataset.info, len(dataset)
    numbers = math.prod(info.target_shape)
    if info.target_kind == "values" and _overflows(
        info.target_dtype, samples * numbers, narrow
    ):
        for indices in _blocks(samples, _BLOCK_BYTES // 8 // numbers):
            targets = np.empty((len(indices), *info.target_shape))
            dataset.take_targets(indices, targets)
            _check_targets(dataset, indices, targets, narrow)
    if info.weighted and _overflows(np.dtype(np.float64), samples, narrow):
        for indices in _blocks(samples, _BLOCK_BYTES // 8):
            weights = np.empty(len(indices))
            dataset.take_weights(indices, weights)
            _check_weights(dataset, indices, weights, narrow)
    numbers = math.prod(info.input_shape)
    if inputs and _overflows(info.input_dtype, samples * numbers, narrow):
        for indices in _blocks(samples, _BLOCK_BYTES // 8 // numbers):
            found = np.empty((len(indices), *info.input_shape), info.input_dtype)
            dataset.take_inputs(indices, found)
            place = first_overflow(found, narrow)
            if place is not None:
                raise too_large(dataset, indices, place, float(found[place]), narrow)


def _overflows(stored: np.dtype[Any] | None, count: int, dtype: np.dtype[Any]) -> bool:
    """Whether numbers of a stored type can overflow, and are few enough to be read first."""
    if stored is None or stored.kind != "f" or stored.itemsize <= dtype.itemsize:
        return False
    return count * stored.itemsize <= IN_MEMORY_BYTES


def first_overflow(array: Array, dtype: np.dtype[Any]) -> tuple[int, ...] | None:
    """Return the place of the first number that is infinite in ``dtype``, if any."""
    with np.errstate(over="ignore"):
        bad = np.isinf(array.astype(dtype))
    return tuple(int(i) for i in np.argwhere(bad)[0]) if bad.any() else None


def too_large(
    dataset: Dataset,
    indices: Indices,
    place: tuple[int, ...],
    value: float,
    dtype: np.dtype[Any],
    *,
    is_scaled: bool = False,
) -> InvalidData:
    """Return the error about an input, at ``place`` in the rows of ``indices``."""
    where = dataset.locate_input(int(indices[place[0]]), place[1:])
    remedy = "divide the inputs by a constant" if is_scaled else "scale the inputs (data.scale)"
    return InvalidData(
        f"{where}: {shown(f'{value:g}', 'a number')} is too large for {dtype}; "
        f"{remedy}, or {_REMEDY}"
    )


def _check_targets(
    dataset: Dataset, indices: Indices, targets: Array, dtype: np.dtype[Any]
) -> None:
    place = first_overflow(targets, dtype)
    if place is not None:
        names = dataset.info.other_columns.targets
        name = names[place[1] if place[1:] else 0] if names else ""
        where = dataset.locate_target(int(indices[place[0]]))
        raise _overflow(where, name, "target", float(targets[place]), dtype)


def _check_weights(
    dataset: Dataset, indices: Indices, weights: Array, dtype: np.dtype[Any]
) -> None:
    place = first_overflow(weights, dtype)
    if place is not None:
        name = dataset.info.other_columns.weight
        where = dataset.locate_target(int(indices[place[0]]))
        raise _overflow(where, name, "weight", float(weights[place]), dtype)


def _overflow(
    where: str, name: str, what: str, value: float, dtype: np.dtype[Any]
) -> InvalidData:
    column = hint(f"column {name!r}: ") if name else ""
    return InvalidData(
        f"{where}: {column}{what} {shown(f'{value:g}', 'of this sample')} is too large for "
        f"{dtype}; divide the {what}s by a "
        f"constant, or {_REMEDY}"
    )


def _blocks(samples: int, most: int) -> Iterator[Indices]:
    rows = max(1, most)
    return (np.arange(start, min(start + rows, samples)) for start in range(0, samples, rows))
