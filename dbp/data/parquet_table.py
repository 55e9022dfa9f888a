"""Read columns of a Parquet file as rows of numbers, by row groups.

pyarrow reads the format; it is imported when a file is opened.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, final

import numpy as np

from dbp.column_names import normalized_name
from dbp.data import parquet_footer as footer
from dbp.data.column_notes import LEAST_ROWS, counting_note
from dbp.data.dataset import Array, Indices, Shape
from dbp.data.file import DataFile
from dbp.data.parquet_columns import DECIMAL, InputColumns, Schema
from dbp.data.quoting import hint
from dbp.data.reading import HEAD
from dbp.data.rows import MemoryRows, Rows, RowsInfo, check_finite
from dbp.errors import InvalidData, MissingDependency

# More different names than this are not classes: the column contains keys or texts.
MAX_NAMES: Final = 1_000_000

_OPTIONS: Final = {"page_checksum_verification": True}

# Rows that are looked at together where not all of a row group are needed.
_BATCH_ROWS: Final = 65_536

# A row group is decoded as a whole, so its numbers must fit into memory several times.
MAX_GROUP_BYTES: Final = 4 * 2**30

# Exceptions of pyarrow on damaged files, found by tests; ArrowInvalid is a
# ValueError, ArrowNotImplementedError a RuntimeError, ArrowKeyError a KeyError.
_ERRORS = (OSError, ValueError, RuntimeError, KeyError, IndexError, TypeError, OverflowError)


@final
class ParquetTable:
    """One open Parquet file. Safe in several threads."""

    def __init__(self, path: str, *, can_choose: bool = True) -> None:
        """Read the footer; raises InvalidData, and MissingDependency without pyarrow.

        ``can_choose``: whether an option of the user's chooses the inputs, for messages.
        """
        try:
            import pyarrow.parquet as pq
        except ImportError as error:
            raise MissingDependency(
                f"{path}: reading Parquet needs pyarrow ({error}): pip install 'dbp[parquet]'"
            ) from error
        self.name = path
        self.file: Final = DataFile(path)
        self._lock = threading.Lock()
        with self._guarded():
            self._parquet: Any = pq.ParquetFile(self.file.reopened, **_OPTIONS)
            metadata = self._parquet.metadata
            groups = footer.rows_of_groups(metadata)
            schema = self._parquet.schema_arrow
        self._or_choose = ", or choose the inputs: inputs = [...]" if can_choose else ""
        self._schema: Final = Schema(path, list(schema), schema.metadata, can_choose=can_choose)
        if texts := self._schema.texts():
            with self._guarded():
                # Each different text once, however often it occurs and however long it is.
                self._parquet = pq.ParquetFile(
                    self.file.reopened, metadata=metadata, read_dictionary=texts, **_OPTIONS
                )
        if min(groups, default=0) < 0 or sum(groups) != metadata.num_rows:
            raise InvalidData(f"{path}: its row groups do not add up to its rows")
        if metadata.num_rows == 0:
            raise InvalidData(f"{path}: there are no rows in it")
        self.starts: Indices = np.cumsum([0, *groups])
        self.samples = int(self.starts[-1])

    def type_of(self, column: str) -> str:
        """Return Arrow's name of a column's type, ``text`` for all texts; InvalidData."""
        return self._schema.type_of(column)

    def names_beside(self, apart: Sequence[str], wanted: Sequence[str]) -> list[str]:
        """Return the wanted columns, and those that are neither in ``apart`` nor an index."""
        return self._schema.names_beside(apart, wanted)

    def inputs_beside(self, apart: Sequence[str]) -> InputColumns:
        """Return the inputs of a file whose options name none; raises InvalidData."""
        with self._guarded():
            empty = footer.empty_columns(self._parquet.metadata)
        found = self._schema.inputs(apart, empty)
        if found.counted is not None:
            self._check_counts(found.counted)
        elif apart:
            return replace(found, notes=(*found.notes, *self._counting_note(found.names)))
        return found

    def dtype_of(self, columns: Sequence[str]) -> np.dtype[Any]:
        """Return the numpy type that holds all of these columns; raises InvalidData."""
        return np.result_type(*map(self._schema.number_type, columns))

    def place(self, *columns: str) -> str:
        """Return the file and a column or two, for messages."""
        return f"{self.name}[{self._schema.shown(columns)}]"

    def read(self, group: int, column: str) -> Any:
        """Return a column of a row group as an Arrow array without nulls; InvalidData."""
        rows = int(self.starts[group + 1] - self.starts[group])
        with self._lock, self._guarded():
            stored = self._schema.stored_name(column)
            table = self._parquet.read_row_group(group, columns=[stored], use_threads=False)
            array = table.column(stored).combine_chunks()
            if hasattr(array, "dictionary_decode") and self.type_of(column) != "text":
                array = array.dictionary_decode()
            if str(array.type).startswith(DECIMAL):
                # Through text: Arrow's own conversion is sometimes off by one ulp.
                array = array.cast("string").cast("float64")
        if len(array) != rows:
            raise InvalidData(
                f"{self.place(column)}: row group {group} holds {len(array):,} rows, "
                f"announced are {rows:,}"
            )
        self._refuse_null(column, array, int(self.starts[group]))
        return array

    def _batches(self, column: str) -> Iterator[tuple[int, Any]]:
        """Yield a column as Arrow arrays of a few rows, each with its first row."""
        row = 0
        with self._guarded():
            batches = self._parquet.iter_batches(
                _BATCH_ROWS, columns=[self._schema.stored_name(column)], use_threads=False
            )
        while True:
            with self._lock, self._guarded():
                batch = next(batches, None)
            if batch is None or (row and HEAD.get() is not None):
                return
            array = batch.column(0)
            self._refuse_null(column, array, row)
            yield row, array
            row += len(array)

    def _refuse_null(self, column: str, array: Any, first: int) -> None:
        if array.null_count:
            row = int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
            raise InvalidData(
                f"{self.place(column)}: sample {first + row}: null; fill it in or "
                f"leave the row out{self._or_choose}"
            )

    def check_sizes(self, columns: Sequence[str], row_bytes: int) -> None:
        """Raise InvalidData for row groups that grow too much; ``row_bytes``: of a row."""
        names = set(map(self._schema.stored_name, columns))
        with self._guarded():
            footer.check_sizes(self.place(*columns), self._parquet.metadata, names, row_bytes)

    def check_nulls(self, columns: Sequence[str]) -> None:
        """Raise InvalidData for the first null that the footer's statistics know of."""
        stored = {self._schema.stored_name(column): column for column in columns}
        with self._guarded():
            nulls = list(footer.groups_with_nulls(self._parquet.metadata, stored))
        for group, name in nulls:
            self.read(group, stored[name])

    def _counting_note(self, names: Sequence[str]) -> Iterator[str]:
        """Yield a note on a first input that counts the rows, if there are other inputs."""
        if len(names) < 2 or self.samples < LEAST_ROWS:
            return
        if np.dtype(self._schema.number_type(names[0])).kind in "iu":
            for base in (0, 1):
                if self._counts(names[0], base):
                    yield counting_note(f"column {names[0]!r}", base, names[1:])

    def _counts(self, column: str, base: int) -> bool:
        """Return whether a column counts the rows from ``base``."""
        self.check_sizes([column], self.dtype_of([column]).itemsize)
        for start, array in self._batches(column):
            expected = np.arange(base + start, base + start + len(array))
            if not np.array_equal(_values(array), expected):
                return False
        return True

    def _check_counts(self, column: str) -> None:
        """Raise InvalidData unless a column without a name counts the rows from 0."""
        if not self._counts(column, 0):
            raise InvalidData(
                f"{self.place(column)}: has no name of its own and does not count the rows "
                f"from 0; name it{self._or_choose or ' or leave it out of the file'}"
            )

    def names_in(self, column: str) -> tuple[str, ...]:
        """Return the names that occur in a column of text, in alphabetical order."""
        names: set[str] = set()
        self.check_sizes([column], np.dtype(np.int64).itemsize)
        for start, array in self._batches(column):
            with self._guarded():
                found = array.unique().to_pylist()
            names.update(map(normalized_name, found))
            if len(names) > MAX_NAMES:
                raise InvalidData(
                    f"{self.place(column)}: more than {MAX_NAMES:,} different texts; are "
                    "these classes?"
                )
            if "" in names:
                raise InvalidData(f"{self.place(column)}: sample {start} ff.: an empty text")
        return tuple(sorted(names))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Convert the exceptions of pyarrow to InvalidData."""
        try:
            yield
        except _ERRORS as error:
            raise InvalidData(
                f"{self.name}: cannot be read as Parquet{hint(f': {str(error)[:300]}')}"
            ) from error


@final
class ParquetRows(Rows):
    """Columns side by side; one row group at a time is decoded, and the last one cached."""

    def __init__(
        self, table: ParquetTable, columns: Sequence[str], shape: Shape, names: Sequence[str]
    ) -> None:
        """``shape``: of a row; ``names``: of the classes, if the one column holds names."""
        dtype = np.dtype(np.int64) if names else table.dtype_of(columns)
        self.info = RowsInfo(table.place(*columns), (table.samples, *shape), dtype)
        self._table = table
        self._columns = columns
        self._numbers = {name: number for number, name in enumerate(names)}
        self._last: tuple[int, Array] = (-1, np.empty(0))
        table.check_nulls(columns)
        table.check_sizes(columns, len(columns) * dtype.itemsize)
        largest = int(np.diff(table.starts).max()) * len(columns) * dtype.itemsize
        if largest > MAX_GROUP_BYTES:
            raise InvalidData(
                f"{self.info.name}: a row group of {largest:,} bytes; at most "
                f"{MAX_GROUP_BYTES:,} are accepted: write the file with more row groups"
            )

    def take(self, indices: Indices, out: Array) -> None:
        """Decode one by one the row groups that hold any of these rows."""
        self._table.file.check_unchanged()
        starts = self._table.starts
        groups = np.searchsorted(starts, indices, side="right") - 1
        for group in np.unique(groups).tolist():
            here = np.flatnonzero(groups == group)
            out[here] = self.group(group)[indices[here] - starts[group]]

    def block(self, start: int, stop: int) -> Array:
        out = np.empty((stop - start, *self.info.shape[1:]), self.info.dtype)
        self.take(np.arange(start, stop), out)
        return out

    def group(self, group: int) -> Array:
        """Return all rows of a row group; must not be written to."""
        number, array = self._last
        if number == group:
            return array
        start, stop = self._table.starts[group : group + 2]
        array = np.empty((stop - start, len(self._columns)), self.info.dtype)
        for position, column in enumerate(self._columns):
            found = self._table.read(group, column)
            array[:, position] = self._codes(found) if self._numbers else _values(found)
        check_finite(self.info.name, array, np.arange(start, stop))
        array = array.reshape(-1, *self.info.shape[1:])
        self._last = (group, array)
        return array

    def _codes(self, column: Any) -> Array:
        """Return the numbers of the classes that a column of names holds."""
        found = column.dictionary.to_pylist()
        codes = [self._numbers.get(normalized_name(name), -1) for name in found]
        return np.array(codes, np.int64)[_values(column.indices)]


def open_rows(
    table: ParquetTable, columns: Sequence[str], shape: Shape, names: Sequence[str], limit: int
) -> Rows:
    """Return rows of these columns: in memory up to ``limit`` bytes, larger ones read on
    demand.

    ``shape``: of a row; ``names``: of the classes, if the one column holds names.
    """
    rows = ParquetRows(table, columns, shape, names)
    if table.samples * len(columns) * rows.info.dtype.itemsize > limit:
        return rows
    array = np.empty(rows.info.shape, rows.info.dtype)
    for group, start in enumerate(table.starts[:-1].tolist()):
        array[start : table.starts[group + 1]] = rows.group(group)
    return MemoryRows(rows.info.name, array)


def _values(array: Any) -> Array:
    values: Array = array.to_numpy(zero_copy_only=False)
    return values
