"""The ``csv`` reader: one sample a line, with inputs, targets and weight in columns.

Inputs are float64 numbers. Targets are whole numbers, other numbers, or names of classes, which
are numbered in alphabetical order. ``csv_table`` parses the file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np

from dbp.column_names import OtherColumns, normalized_name
from dbp.data import array_dataset
from dbp.data.array_dataset import ArrayDataset, TargetKind
from dbp.data.column_notes import missing_class_notes
from dbp.data.csv_columns import Column
from dbp.data.csv_table import Table, read_table
from dbp.data.dataset import Array, DataInfo, Dataset, Reader
from dbp.data.labels import LARGEST_CLASS, Labels, not_classes
from dbp.data.many_files import open_files
from dbp.data.number_text import number, number_hint, repaired
from dbp.data.quoting import quoted, shown
from dbp.data.rows import MemoryRows
from dbp.errors import InvalidData
from dbp.registry import option

TARGET_DOC = "column of the target: its name, or its position from 0 (-1: the last)"
TARGETS_DOC = "names of several columns of values to predict, instead of target"
INPUTS_DOC = (
    "columns of inputs in this order, by name or position; all others are then ignored; "
    "default: all columns but target and weight"
)
WEIGHT_DOC = "column of each sample's weight: its name, or its position from 0"
TARGET_KIND_DOC = f"{array_dataset.TARGET_KIND_DOC}; class takes names of classes too"
HEADER_DOC = (
    "whether line 1 names the columns; auto: if no input in it is a number, or if it numbers "
    "the columns from 0 or 1"
)


@final
@dataclass(frozen=True)
class CSV(Reader):
    """Comma- or otherwise separated text, UTF-8, one sample a line."""

    holds_all: ClassVar[bool] = True
    reads_to_inspect: ClassVar[bool] = True

    path: str = option(doc="the file, or a pattern: part-*.csv, day-*/*.csv", file=True)
    target: str | int = option(-1, doc=TARGET_DOC)
    targets: tuple[str, ...] | None = option(None, doc=TARGETS_DOC)
    inputs: tuple[str | int, ...] | None = option(None, doc=INPUTS_DOC)
    weight: str | int | None = option(None, doc=WEIGHT_DOC)
    target_kind: TargetKind = option("auto", doc=TARGET_KIND_DOC)
    header: Literal["auto", "yes", "no"] = option("auto", doc=HEADER_DOC)
    delimiter: str = option(",", doc='one character between columns; "\\t" for a tab')

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n\0' or self.delimiter.isalnum():
            raise ValueError(
                f"delimiter: must be one character, no letter, digit, quote or line end, "
                f"got {self.delimiter!r}"
            )
        if self.header == "no":
            for name in ("target", "targets", "inputs", "weight"):
                value = getattr(self, name)
                if any(isinstance(c, str) for c in _columns(value)):
                    raise ValueError(
                        f"{name}: a column can be named only if the file has a header"
                    )
        if self.targets is not None and (not self.targets or self.target != -1):
            raise ValueError(
                "targets: must name at least one column, and target must be left out"
            )
        if self.targets is not None and self.target_kind == "class":
            raise ValueError("targets: several columns are values, not a class")
        if self.inputs is not None:
            check_inputs(self.inputs, self._apart)

    def inspect(self) -> DataInfo:
        """Read the whole file: text has no header that gives its size."""
        return self.open().info

    def open(self) -> Dataset:
        kind = "tsv" if self.delimiter == "\t" else "csv"
        return open_files(self, lambda part, _: part._open(), kind=kind)

    def _open(self) -> Dataset:
        table = read_table(
            self.path,
            delimiter=self.delimiter,
            header=self.header,
            apart=self._apart,
            inputs=self.inputs,
        )
        targets, names = self._targets(table)
        weights = None if self.weight is None else _weights(table)
        return ArrayDataset(
            MemoryRows(self.path, table.inputs),
            MemoryRows(self.path, targets),
            target_kind="class" if targets.dtype.kind == "i" else "values",
            class_names=names,
            places=table.lines,
            weights=None if weights is None else MemoryRows(self.path, weights),
            input_names=table.input_names,
            other_columns=self._other_columns(table),
            notes=(*table.notes, *missing_class_notes(names)),
        )

    def _other_columns(self, table: Table) -> OtherColumns:
        count = len(table.apart) - (self.weight is not None)
        return OtherColumns(
            targets=table.apart_names[:count],
            weight="".join(table.apart_names[count:]),
            targets_named=isinstance(self.target, str) or self.targets is not None,
            ignored=self.inputs is not None,
        )

    @property
    def _apart(self) -> tuple[Column, ...]:
        """Return the columns that are no inputs: targets, then the weight."""
        return (
            *_columns(self.target if self.targets is None else self.targets),
            *_columns(self.weight),
        )

    def _targets(self, table: Table) -> tuple[Array, tuple[str, ...]]:
        """Return the target column as int64 classes (with their names) or float64 values."""
        if self.targets is not None:
            columns = [_numbers(table, column) for column in range(len(self.targets))]
            return np.stack(columns, axis=1), ()
        cells = table.apart[0]
        values = [number(cell) for cell in cells]
        texts = sum(value is None for value in values)
        if texts == len(values) and self.target_kind != "values":
            if self.target_kind == "auto":
                _check_names(table)
            return _named(table)
        if texts:
            row = values.index(None)
            if not cells[row].strip():
                raise _no_target(table, row)
            raise InvalidData(
                f"{table.place(row)}: {quoted(cells[row])} is not a number"
                + ("" if self.target_kind == "values" else ", but other targets are numbers")
                + number_hint(cells[row])
            )
        array = _numbers(table, 0)
        if self.target_kind == "auto":
            whole = all(cell.strip().lstrip("+").isdigit() for cell in cells)
            kind = "class" if whole else "values"
        else:
            kind = self.target_kind
        return (_whole(table, array) if kind == "class" else array), ()


def check_inputs(inputs: Sequence[Column], apart: Sequence[Column]) -> None:
    """Raise ValueError where no column is chosen, or one that is chosen already."""
    if not inputs:
        raise ValueError("inputs: must name at least one column")
    chosen = Counter([*inputs, *apart])
    for column in inputs:
        if chosen[column] > 1:
            raise ValueError(
                f"inputs: column {column!r} must stand once in inputs, target and weight"
            )


def _columns(option: Column | tuple[Column, ...] | None) -> tuple[Column, ...]:
    """Return an option of one column, several or none, as several."""
    if option is None:
        return ()
    return option if isinstance(option, tuple) else (option,)


def _numbers(table: Table, column: int) -> Array:
    """Return a column that was kept as text, as finite numbers; raises InvalidData."""
    cells = table.apart[column]
    values = [number(cell) for cell in cells]
    for row, value in enumerate(values):
        if value is None or not math.isfinite(value):
            raise InvalidData(
                f"{table.place(row, column)}: {quoted(cells[row])}, expected a finite number"
                f"{number_hint(cells[row])}"
            )
    return np.array(values, np.float64)


def _weights(table: Table) -> Array:
    """Return the last column that was kept as text, as numbers of at least 0."""
    column = len(table.apart) - 1
    weights = _numbers(table, column)
    if (weights < 0).any():
        row = int(np.argmax(weights < 0))
        raise InvalidData(
            f"{table.place(row, column)}: weight "
            f"{shown(table.apart[column][row], 'below 0')}, expected a "
            "number of at least 0"
        )
    return weights


def _check_names(table: Table) -> None:
    """Raise InvalidData where all texts of the target are badly written numbers."""
    cells = [cell.strip() for cell in table.apart[0]]
    if all(map(repaired, cells)):
        raise InvalidData(
            f"{table.place(0)}: {quoted(cells[0])} is not a number, nor is any other target"
            f'{number_hint(cells[0])}; if they are names of classes: target_kind = "class"'
        )


def _named(table: Table) -> tuple[Array, tuple[str, ...]]:
    """Number the names of classes in alphabetical order."""
    labels = [normalized_name(cell) for cell in table.apart[0]]
    if "" in labels:
        raise _no_target(table, labels.index(""))
    names = tuple(sorted(set(labels)))
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[label] for label in labels], np.int64), names


def _no_target(table: Table, row: int) -> InvalidData:
    """Return the error for an empty target; the last column may be one that no line fills."""
    hint = ""
    if not any(cell.strip() for cell in table.apart[0]):
        hint = (
            ", as in every line; if lines end with a delimiter, choose target and inputs, so "
            "that this column is ignored"
        )
    return InvalidData(f"{table.place(row)}: the target is empty{hint or number_hint('')}")


def _whole(table: Table, array: Array) -> Array:
    bad = (array < 0) | (array > LARGEST_CLASS) | (array != np.floor(array))
    if bad.any():
        row = int(np.argmax(bad))
        raise InvalidData(
            f"{table.place(row)}: class "
            f"{shown(table.apart[0][row], 'of another kind')}, expected a whole number from 0 "
            f"to {LARGEST_CLASS}; {not_classes(Labels.of([array]), table.name)}"
        )
    return array.astype(np.int64)
