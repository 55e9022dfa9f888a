"""A text file of separated cells as numbers beside columns of text. It judges no target.

Every complaint names file, line, column and cell.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, final

import numpy as np
import numpy.typing as npt

from dbp.data.file import DataFile
from dbp.errors import InvalidData, nearest

Column = str | int

# A longer line is no row of samples; without a limit a file without line ends would be
# taken into memory as one.
MAX_LINE_BYTES = 16 * 2**20

# What messages show of a cell: a line without the delimiter is one cell.
_SHOWN = 40


@dataclass(frozen=True)
class Table:
    """``inputs``: (rows, the other columns); ``lines``: one for each row.

    ``apart``: the cells of each column that was asked for, one for each row, and
    ``columns``, how messages name these columns. ``input_names`` and ``apart_names``: empty
    without a header.
    """

    name: str
    inputs: npt.NDArray[np.float64]
    apart: list[list[str]]
    lines: array[int]
    columns: list[str]
    input_names: tuple[str, ...]
    apart_names: tuple[str, ...]

    def place(self, row: int, column: int = 0) -> str:
        """File, line and column of a cell in one of the columns that stand apart."""
        return f"{self.name}:{self.lines[row]}: {self.columns[column]}"


def number(cell: str) -> float | None:
    """The number a cell holds, None if it holds none. No digits grouped by underscores."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def read_table(path: str, *, apart: Sequence[Column], header: str, delimiter: str) -> Table:
    """Read the whole file; raises InvalidData. Columns not in ``apart`` are inputs."""
    file = DataFile(path)
    if file.is_gzip():
        raise InvalidData(f"{path}: is gzip-compressed; csv reads plain text: unpack it first")
    with file.stream() as stream:
        lines = _Lines(path, stream)
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        return _Builder(path, apart, delimiter).read(_numbered(path, rows, lines), header)


class _Lines:
    """The lines of a file, decoded one by one, none of them too long."""

    def __init__(self, path: str, stream: BinaryIO) -> None:
        self._path = path
        self._stream = stream
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        while raw := self._stream.readline(MAX_LINE_BYTES + 1):
            self.number += 1
            if len(raw) > MAX_LINE_BYTES:
                raise InvalidData(
                    f"{self._path}:{self.number}: a line of more than {MAX_LINE_BYTES:,} bytes"
                )
            try:
                yield raw.decode("utf-8-sig" if self.number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InvalidData(
                    f"{self._path}:{self.number}: not UTF-8 text: byte {raw[error.start]:#04x} "
                    f"at byte {error.start + 1} of the line"
                ) from error


def _numbered(
    path: str, rows: Iterator[list[str]], lines: _Lines
) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with its line; the parser's errors told likewise."""
    try:
        for row in rows:
            if len(row) > 1 or (row and row[0].strip()):
                yield lines.number, row
    except csv.Error as error:
        raise InvalidData(f"{path}:{lines.number}: {error}") from error


@final
class _Builder:
    """Rows of text -> a table; knows the columns from the first row."""

    def __init__(self, path: str, apart: Sequence[Column], delimiter: str) -> None:
        self._path = path
        self._wanted = apart
        self._delimiter = delimiter
        self._guessed = False
        self._names: list[str] = []
        self._columns = 0
        self._apart: list[int] = []
        self._inputs: list[int] = []
        self._values = array("d")
        self._cells: list[list[str]] = [[] for _ in apart]
        self._lines = array("q")

    def read(self, rows: Iterator[tuple[int, list[str]]], header: str) -> Table:
        """All rows; ``header``: auto, yes or no."""
        line, first = next(rows, (0, []))
        if not first:
            raise InvalidData(f"{self._path}: there are no lines in it")
        self._guessed = header == "auto"
        self._settle_columns(line, first, header)
        if not self._names:
            self._add(line, first)
        for line, row in rows:
            self._add(line, row)
        if not self._lines:
            hint = self._delimiter_hint(first[0])
            raise InvalidData(f"{self._path}: a header and no samples{hint}")
        inputs = np.frombuffer(self._values, np.float64).reshape(len(self._lines), -1)
        self._check_finite(inputs)
        columns = [self._column(position) for position in self._apart]
        names, apart = self._named(self._inputs), self._named(self._apart)
        return Table(self._path, inputs, self._cells, self._lines, columns, names, apart)

    def _named(self, positions: Sequence[int]) -> tuple[str, ...]:
        return tuple(self._names[i] for i in positions) if self._names else ()

    def _settle_columns(self, line: int, first: list[str], header: str) -> None:
        """Number of columns, those apart, and the names if line 1 is a header."""
        self._columns = len(first)
        place = f"{self._path}:{line}"
        if not self._wanted:
            self._inputs = list(range(self._columns))
            self._settle_names(first, first, header)
            return
        if self._columns <= len(self._wanted):
            raise InvalidData(
                f"{place}: {_count(self._columns)}, expected inputs beside "
                f"{_count(len(self._wanted))} for targets and weights, separated by "
                f"{self._delimiter!r}; is the delimiter another one? The line begins "
                f"{first[0][:_SHOWN]!r}"
            )
        self._apart = [self._position(place, first, wanted) for wanted in self._wanted]
        if len(set(self._apart)) < len(self._apart):
            raise InvalidData(
                f"{place}: one column cannot be both: targets and weights are "
                f"{', '.join(map(str, self._wanted))}"
            )
        self._inputs = [i for i in range(self._columns) if i not in self._apart]
        if any(isinstance(wanted, str) for wanted in self._wanted):
            self._names = first
        else:
            self._settle_names(first, [first[i] for i in self._inputs], header)

    def _position(self, place: str, first: list[str], wanted: Column) -> int:
        """Where a column stands; raises InvalidData if there is none or several."""
        if isinstance(wanted, str):
            count = first.count(wanted)
            if count != 1:
                hint = nearest(wanted, first) if count == 0 else ""
                raise InvalidData(
                    f"{place}: {count} columns named {wanted!r}, expected one{hint}"
                )
            return first.index(wanted)
        if not -self._columns <= wanted < self._columns:
            raise InvalidData(
                f"{place}: no column {wanted} for the target or the weight: there are "
                f"{self._columns}, 0 to {self._columns - 1}"
            )
        return wanted % self._columns

    def _settle_names(self, first: list[str], inputs: list[str], header: str) -> None:
        """Take the first row for the names if it is a header: where its inputs tell.

        One number among them tells of a sample: its other cells may be bad ones.
        """
        if header == "yes" or (header == "auto" and all(number(c) is None for c in inputs)):
            self._names = first

    def _add(self, line: int, row: list[str]) -> None:
        if len(row) != self._columns:
            raise InvalidData(
                f"{self._path}:{line}: {len(row)} columns, expected {self._columns} as in the "
                "first line"
            )
        for cells, position in zip(self._cells, self._apart, strict=True):
            cells.append(row[position])
        self._lines.append(line)
        if self._apart:
            row = [row[position] for position in self._inputs]
        try:
            # Grouping underscores are numbers to Python alone.
            if "_" in "".join(row):
                raise ValueError
            self._values.extend(map(float, row))
        except ValueError:
            self._complain(line, row)

    def _complain(self, line: int, row: list[str]) -> None:
        """Name the first cell that is no number."""
        for position, cell in enumerate(row):
            if number(cell) is None:
                hint = "; write decimals with a point" if "," in cell else ""
                found = (
                    f"{cell[:_SHOWN]!r} is not a number; inputs must be numbers"
                    if cell.strip()
                    else "the cell is empty"
                )
                raise InvalidData(
                    f"{self._path}:{line}: {self._input_column(position)}: {found}"
                    f"{self._delimiter_hint(cell)}{hint}{self._header_hint()}"
                ) from None

    def _delimiter_hint(self, cell: str) -> str:
        """For a line of one cell that another delimiter divides."""
        if self._columns > 1 or not set(";\t| ") & set(cell.strip()):
            return ""
        return f", separated by {self._delimiter!r}; is the delimiter another one?"

    def _header_hint(self) -> str:
        """For a bad cell in a first row that was guessed to be a sample."""
        if self._names or len(self._lines) > 1 or not self._guessed:
            return ""
        said = ', or with header = "yes"' if self._wanted else ""
        return f"; the first line names the columns only if no input in it is a number{said}"

    def _check_finite(self, inputs: npt.NDArray[np.float64]) -> None:
        finite = np.isfinite(inputs)
        if not finite.all():
            row, position = (int(i) for i in np.argwhere(~finite)[0])
            raise InvalidData(
                f"{self._path}:{self._lines[row]}: {self._input_column(position)}: "
                f"{inputs[row, position]}, expected a finite number"
            )

    def _input_column(self, position: int) -> str:
        return self._column(self._inputs[position])

    def _column(self, column: int) -> str:
        """A column as messages name it: by its name, else by its position as in ``target``."""
        if self._names:
            return f"column {self._names[column][:_SHOWN]!r}"
        return f"column {column} (counted from 0)"


def _count(columns: int) -> str:
    return "one column" if columns == 1 else f"{columns} columns"
