"""The ``parquet`` reader: columns of numbers, the target in some of them.

A file that does not fit into memory is read by row groups; in the random order of an epoch each
mini-batch then decodes every row group it touches.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, final

from dbp.column_names import OtherColumns, normalized_name
from dbp.data.array_dataset import TARGET_KIND_DOC, ArrayDataset, TargetKind, combine
from dbp.data.column_notes import missing_class_notes
from dbp.data.dataset import DataInfo, Dataset, Reader, Shape
from dbp.data.many_files import inspect_files, open_files
from dbp.data.number_text import number_hint, repaired
from dbp.data.parquet_table import ParquetRows, ParquetTable, open_rows
from dbp.data.quoting import quoted
from dbp.data.rows import RowsInfo
from dbp.errors import InvalidData
from dbp.registry import option


@final
@dataclass(frozen=True)
class Parquet(Reader):
    """Columns of one Parquet file; needs pyarrow: pip install 'dbp[parquet]'."""

    reads_to_inspect: ClassVar[bool] = True
    can_crash: ClassVar[bool] = True

    path: str = option(doc="the file, or a pattern: part-*.parquet, day-*/*.parquet", file=True)
    target: str | None = option(
        None, doc="name of the column of the target: numbers, or names of classes"
    )
    targets: tuple[str, ...] | None = option(
        None, doc="names of several columns of values to predict, instead of target"
    )
    inputs: tuple[str, ...] | None = option(
        None,
        doc="names of the columns of inputs, in this order; default: all columns but targets, "
        "weight and the index of a pandas DataFrame",
    )
    weight: str | None = option(None, doc="name of the column of each sample's weight")
    target_kind: TargetKind = option(
        "auto", doc=f"{TARGET_KIND_DOC}; names of classes are class"
    )

    def __post_init__(self) -> None:
        if (self.target is None) == (not self.targets):
            raise ValueError("target: must name one column, or targets several, but not both")
        if self.targets is not None and self.target_kind == "class":
            raise ValueError("targets: several columns are values, not a class")
        if self.inputs is not None and not self.inputs:
            raise ValueError("inputs: must name at least one column")
        for name, count in Counter([*(self.inputs or ()), *self._apart]).items():
            if count > 1:
                raise ValueError(f"inputs: column {name!r} must be named once in all options")

    def inspect(self) -> DataInfo:
        """Read the footer, and the target column if it holds class names."""
        return inspect_files(self, Parquet._inspect, kind="parquet")

    def open(self) -> Dataset:
        """Check the file; small files are read into memory."""
        return open_files(self, Parquet._open, kind="parquet")

    def _inspect(self) -> DataInfo:
        table = ParquetTable(self.path)
        inputs, notes = self._inputs(table)
        names = self._class_names(table)
        return combine(
            _info(table, inputs, (len(inputs),)),
            _info(table, self._targets, self._target_shape, names),
            self._kind(names),
            class_names=names,
            weights=None if self.weight is None else _info(table, (self.weight,), ()),
            input_names=inputs,
            other_columns=self._other_columns,
            notes=(*notes, *missing_class_notes(names)),
        )

    def _open(self, limit: int) -> Dataset:
        table = ParquetTable(self.path)
        inputs, notes = self._inputs(table)
        names = self._class_names(table)
        return ArrayDataset(
            open_rows(table, inputs, (len(inputs),), (), limit),
            open_rows(table, self._targets, self._target_shape, names, limit),
            target_kind=self._kind(names),
            class_names=names,
            weights=None
            if self.weight is None
            else open_rows(table, (self.weight,), (), (), limit),
            input_names=inputs,
            other_columns=self._other_columns,
            notes=(*notes, *missing_class_notes(names)),
        )

    @property
    def _targets(self) -> tuple[str, ...]:
        return tuple(map(normalized_name, self.targets or (str(self.target),)))

    @property
    def _target_shape(self) -> Shape:
        return () if self.targets is None else (len(self.targets),)

    @property
    def _apart(self) -> tuple[str, ...]:
        return self._targets if self.weight is None else (*self._targets, self.weight)

    @property
    def _other_columns(self) -> OtherColumns:
        return OtherColumns(
            targets=self._targets,
            weight=normalized_name(self.weight or ""),
            targets_named=True,
            ignored=self.inputs is not None,
        )

    def _kind(self, names: tuple[str, ...]) -> TargetKind:
        if names:
            return "class"
        return "values" if self.targets is not None else self.target_kind

    def _inputs(self, table: ParquetTable) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the columns of inputs, and notes on how they were found."""
        if self.inputs is not None:
            return tuple(map(normalized_name, self.inputs)), ()
        found = table.inputs_beside(self._apart)
        return found.names, found.notes

    def _class_names(self, table: ParquetTable) -> tuple[str, ...]:
        """Return the names of the classes, if the target's column holds names."""
        if self.target is None or table.type_of(self.target) != "text":
            return ()
        if self.target_kind == "values":
            raise InvalidData(f"{table.place(self.target)}: holds texts, expected numbers")
        names = table.names_in(self.target)
        if self.target_kind == "auto" and all(map(repaired, names)):
            raise InvalidData(
                f"{table.place(self.target)}: {quoted(names[0])} is not a number, nor is any "
                f"other target{number_hint(names[0])}; if they are names of classes: "
                'target_kind = "class"'
            )
        return names


def _info(
    table: ParquetTable, columns: tuple[str, ...], shape: Shape, names: tuple[str, ...] = ()
) -> RowsInfo:
    return ParquetRows(table, columns, shape, names).info
