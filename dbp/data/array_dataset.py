"""The data set of every reader: rows of inputs and rows of targets, checked together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt

from dbp.column_names import NO_OTHERS, OtherColumns
from dbp.data.dataset import Array, DataInfo, Dataset, Indices
from dbp.data.labels import LARGEST_CLASS, Labels, not_classes, one_hot
from dbp.data.quoting import shown
from dbp.data.rows import MemoryRows, Rows, RowsInfo
from dbp.data_access import hides_contents
from dbp.errors import InvalidData
from dbp.quantities import count_text

TargetKind = Literal["auto", "class", "values"]

TARGET_KIND_DOC = (
    "class: whole numbers from 0; values: numbers to predict; "
    "auto: class for one whole number per sample, else values"
)


@final
class ArrayDataset(Dataset):
    """Inputs and targets as two arrays of rows."""

    def __init__(
        self,
        inputs: Rows,
        targets: Rows,
        *,
        target_kind: TargetKind = "auto",
        class_names: tuple[str, ...] = (),
        input_maximum: float | None = None,
        places: Sequence[int] | None = None,
        weights: Rows | None = None,
        input_names: tuple[str, ...] = (),
        other_columns: OtherColumns = NO_OTHERS,
        notes: tuple[str, ...] = (),
    ) -> None:
        """Check that the rows fit; raises InvalidData. ``places``: the line of each row."""
        self.info = combine(
            inputs.info, targets.info, target_kind, class_names=class_names,
            input_maximum=input_maximum, weights=None if weights is None else weights.info,
            input_names=input_names, other_columns=other_columns, notes=notes,
        )  # fmt: skip
        self._weights = weights
        self._inputs = inputs
        self._targets = targets
        self._places = places
        if self.info.target_kind == "class":
            self._check_classes()
        if weights is not None:
            self._check_weights(weights)

    def take_inputs(self, indices: Indices, out: Array) -> None:
        self._inputs.take(indices, out.reshape(len(indices), *self._inputs.info.shape[1:]))

    def take_targets(self, indices: Indices, out: Array) -> None:
        self._targets.take(indices, out.reshape(len(indices), *self._targets.info.shape[1:]))

    def take_weights(self, indices: Indices, out: Array) -> None:
        if self._weights is None:
            return super().take_weights(indices, out)
        shape = (len(indices), *self._weights.info.shape[1:])
        return self._weights.take(indices, out.reshape(shape))

    def locate_target(self, index: int) -> str:
        """Name the file and the sample, or the line where the format has lines."""
        return self._place(self._targets.info.name, index)

    def locate_input(self, index: int, place: tuple[int, ...]) -> str:
        where = self._place(self._inputs.info.name, index)
        names = self.info.input_names
        if len(place) == 1 and names and not hides_contents():
            return f"{where}: column {names[place[0]]!r}"
        return f"{where}, element {list(place)}" if place else where

    def _place(self, name: str, index: int) -> str:
        if self._places is None:
            return f"{name}: sample {index}"
        return f"{name}:{self._places[index]}"

    def _check_weights(self, weights: Rows) -> None:
        for start, block in weights.blocks():
            bad = block < 0
            if bad.any():
                row = int(np.argmax(bad.reshape(len(block))))
                raise InvalidData(
                    f"{self._place(weights.info.name, start + row)}: weight "
                    f"{shown(block[row].item(), 'below 0')}, expected a number of at least 0"
                )

    def _check_classes(self) -> None:
        for start, block in self._targets.blocks():
            bad = (block < 0) | (block > LARGEST_CLASS)
            if block.dtype.kind == "f":
                bad |= block != np.floor(block)
            if bad.any():
                row = int(np.argmax(bad.reshape(len(block))))
                raise InvalidData(
                    f"{self.locate_target(start + row)}: class "
                    f"{shown(block[row].item(), 'of another kind')}, expected "
                    f"a whole number from 0 to {LARGEST_CLASS}; {self._remedy(block)}"
                )

    def _remedy(self, bad: Array) -> str:
        """Return the targets, those of the block ``bad`` too, and the remedy."""
        blocks = (block for _, block in self._targets.blocks())
        found = Labels.of(itertools.chain([bad], blocks))
        return not_classes(found, self._targets.info.name)


def arrays(
    inputs: npt.NDArray[Any],
    targets: npt.NDArray[Any],
    *,
    target_kind: TargetKind = "auto",
    weights: npt.NDArray[Any] | None = None,
) -> ArrayDataset:
    """Return a data set over arrays in memory: inputs (n, ...), targets (n,) or (n, ...).

    ``weights``: (n,), at least 0.
    """
    return ArrayDataset(
        MemoryRows("inputs", inputs),
        MemoryRows("targets", targets),
        target_kind=target_kind,
        weights=None if weights is None else MemoryRows("weights", weights),
    )


def combine(
    inputs: RowsInfo,
    targets: RowsInfo,
    kind: TargetKind,
    *,
    class_names: tuple[str, ...] = (),
    input_maximum: float | None = None,
    weights: RowsInfo | None = None,
    input_names: tuple[str, ...] = (),
    other_columns: OtherColumns = NO_OTHERS,
    notes: tuple[str, ...] = (),
) -> DataInfo:
    """Return the DataInfo of two headers; raises InvalidData if they do not fit."""
    _check_inputs(inputs, targets)
    if len(targets.shape) == 0:
        raise InvalidData(f"{targets.name}: holds a single number, expected one per sample")
    if 0 in targets.shape[1:]:
        raise InvalidData(f"{targets.name}: shape {targets.shape}: there are no targets in it")
    if inputs.shape[0] != targets.shape[0]:
        raise InvalidData(
            f"{inputs.name} holds {count_text(inputs.shape[0], 'input')} but {targets.name} "
            f"holds {count_text(targets.shape[0], 'target')}; they must be equally many"
        )
    if weights is not None:
        _check_weight_shape(inputs, weights)
    one_each = all(length == 1 for length in targets.shape[1:])
    if kind == "auto":
        kind = "class" if targets.dtype.kind in "iub" and one_each else "values"
    elif kind == "class" and not one_each:
        raise InvalidData(
            f"{targets.name}: shape {targets.shape}, expected one class per sample: "
            f"({targets.shape[0]},); are these the inputs? If they are one-hot rows, "
            f"{one_hot(targets.name)}"
        )
    if input_maximum is None and inputs.dtype == np.uint8:
        input_maximum = 255.0
    return DataInfo(
        samples=inputs.shape[0],
        input_shape=inputs.shape[1:],
        input_dtype=inputs.dtype,
        target_shape=() if kind == "class" else targets.shape[1:],
        target_kind=kind,
        targets_name=targets.name,
        target_dtype=targets.dtype,
        class_names=class_names,
        input_maximum=input_maximum,
        weighted=weights is not None,
        input_names=input_names,
        other_columns=other_columns,
        notes=notes,
    )


def _check_weight_shape(inputs: RowsInfo, weights: RowsInfo) -> None:
    samples, shape = inputs.shape[0], weights.shape
    if shape[:1] != (samples,) or any(length != 1 for length in shape[1:]):
        raise InvalidData(
            f"{weights.name}: shape {shape}, expected one weight per sample: ({samples},)"
        )


def _check_inputs(inputs: RowsInfo, targets: RowsInfo) -> None:
    if len(inputs.shape) < 2:
        swapped = len(targets.shape) > 1
        raise InvalidData(
            f"{inputs.name}: shape {inputs.shape}, expected inputs of at least two dimensions, "
            "samples first; "
            + (
                f"it and {targets.name} look exchanged"
                if swapped
                else "are these the targets? A single feature has shape (samples, 1)"
            )
        )
    if 0 in inputs.shape:
        raise InvalidData(f"{inputs.name}: shape {inputs.shape}: there are no samples in it")
