"""Read a text file of separated cells: inputs as numbers, other columns as text.

Every error names file, line, column and cell.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import final

import numpy as np
import numpy.typing as npt

from dbp.data.column_notes import (
    LEAST_ROWS,
    counting_note,
    nameless_index_note,
    rounded_columns,
    rounded_note,
)
from dbp.data.csv_columns import (
    Column,
    ColumnChoice,
    Columns,
    assign_columns,
    delimiter_hint,
    inputs_remedy,
    width_hint,
)
from dbp.data.csv_lines import NumberedRow, open_rows
from dbp.data.number_text import not_finite, number, number_hint
from dbp.data.quoting import quoted
from dbp.data.reading import HEAD
from dbp.errors import InvalidData
from dbp.quantities import count_text


@dataclass(frozen=True)
class Table:
    """``inputs``: (rows, columns of inputs); ``lines``: one for each row.

    ``apart``: the cells of each requested column, one for each row, and ``columns``, the names
    of these columns in messages. ``input_names`` and ``apart_names``: in
    the same order, empty without a header. ``notes``: decisions that the user should know of.
    """

    name: str
    inputs: npt.NDArray[np.float64]
    apart: list[list[str]]
    lines: array[int]
    columns: list[str]
    input_names: tuple[str, ...]
    apart_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def place(self, row: int, column: int = 0) -> str:
        """Return file, line and column of a cell in one of the columns kept as text."""
        return f"{self.name}:{self.lines[row]}: {self.columns[column]}"


def read_table(
    path: str,
    *,
    delimiter: str,
    header: str = "auto",
    apart: Sequence[Column] = (),
    inputs: Sequence[Column] | None = None,
    leave_out: Sequence[str] = (),
    remedies: tuple[str, str] | None = None,
) -> Table:
    """Read the whole file; raises InvalidData.

    Args:
        path: The file; plain UTF-8 text.
        delimiter: One character between columns.
        header: Whether line 1 names the columns: ``auto``, ``yes`` or ``no``. A column asked
            for by name says yes.
        apart: Columns that are kept as text, by name or position.
        inputs: The columns of inputs, in this order; all others are then ignored. None: all
            columns but those apart, in the order of the file.
        leave_out: Names of columns that are ignored where the file has them.
        remedies: How the user of a command says that there is a header, and that there is
            none; a command has no option that chooses the inputs. None: options of a reader.
    """
    choice = _choice(delimiter, header, apart, inputs, leave_out, remedies)
    with open_rows(path, delimiter) as rows:
        return _Builder(path, choice).read(rows)


def read_names(
    path: str,
    *,
    delimiter: str,
    header: str = "auto",
    leave_out: Sequence[str] = (),
    remedies: tuple[str, str] | None = None,
) -> tuple[str, ...]:
    """Return the names of the columns that have one, from line 1 only; empty without a header.

    Arguments and errors as in ``read_table``; columns named in ``leave_out`` are left out.
    """
    choice = _choice(delimiter, header, (), None, leave_out, remedies)
    with open_rows(path, delimiter) as rows:
        line, first = _first(path, rows)
        columns = assign_columns(f"{path}:{line}", first, choice)
    return columns.input_names


def _choice(
    delimiter: str,
    header: str,
    apart: Sequence[Column],
    inputs: Sequence[Column] | None,
    leave_out: Sequence[str],
    remedies: tuple[str, str] | None,
) -> ColumnChoice:
    choice = ColumnChoice(delimiter, apart, inputs, leave_out, header)
    return choice if remedies is None else replace(choice, remedies=remedies, can_choose=False)


def _first(path: str, rows: Iterator[NumberedRow]) -> NumberedRow:
    line, first = next(rows, (0, []))
    if not first:
        raise InvalidData(f"{path}: there are no lines in it")
    return line, first


@final
class _Builder:
    """Builds a table from rows of text; the first row determines the columns."""

    def __init__(self, path: str, choice: ColumnChoice) -> None:
        self._path = path
        self._choice = choice
        self._columns = Columns(0, "sample", [], [])
        self._in_order = False
        self._values = array("d")
        self._cells: list[list[str]] = [[] for _ in choice.apart]
        self._lines = array("q")

    def read(self, rows: Iterator[NumberedRow]) -> Table:
        """Read all rows into a table."""
        first_line, first = _first(self._path, rows)
        columns = self._columns = assign_columns(
            f"{self._path}:{first_line}", first, self._choice
        )
        self._in_order = columns.inputs == list(range(columns.count))
        if columns.verdict != "header":
            self._add(first_line, first)
        for line, row in rows:
            self._add(line, row)
        self._judge_first()
        if not self._lines:
            hint = delimiter_hint(first, self._choice)
            raise InvalidData(f"{self._path}: a header and no samples{hint}")
        values = np.frombuffer(self._values, np.float64)
        # A first line that turned out to be the header was read as a sample.
        inputs = values[-len(self._lines) * len(columns.inputs) :].reshape(len(self._lines), -1)
        self._check_finite(inputs)
        shown = [columns.shown(position) for position in columns.apart]
        return Table(
            self._path, inputs, self._cells, self._lines, shown, columns.input_names,
            columns.apart_names, tuple(self._notes(first_line, inputs)),
        )  # fmt: skip

    def _judge_first(self) -> None:
        """Decide by all lines whether line 1 is a header; raises InvalidData.

        A text in line 1 that occurs again in its column is a value (a class), so line 1 is a
        sample. A text that occurs in line 1 only may be a class or the column's name.
        """
        columns, choice = self._columns, self._choice
        if columns.verdict == "header" or not choice.is_guessed:
            return
        texts = [cells for cells in self._cells if number(cells[0]) is None]
        known = any(_occurs_again(cells) for cells in texts)
        if columns.verdict == "counts" and not known and len(self._lines) > 1:
            for cells in self._cells:
                del cells[0]
            self._lines.pop(0)
            return
        columns.names = []
        if texts and not known and len(self._lines) > 1 and HEAD.get() is None:
            raise InvalidData(
                f"{self._path}:{self._lines[0]}: {quoted(texts[0][0].strip())} occurs in no "
                f"other line of its column: is line {self._lines[0]} a header or a sample? "
                f"{choice.say_which}"
            )

    def _notes(self, line: int, inputs: npt.NDArray[np.float64]) -> Iterator[str]:
        """Yield notes on the columns; ``line``: the first of the file."""
        columns, choice = self._columns, self._choice
        numbers = [name for name in columns.input_names if number(name) is not None]
        if numbers and choice.is_guessed:
            yield (
                f"line {line} numbers the columns and is taken for the header "
                f"({', '.join(columns.input_names[:3])}, ...); if it is a sample, say "
                f"{choice.remedies[1]}"
            )
        if columns.index:
            yield nameless_index_note("the first column")
        elif choice.apart and choice.inputs is None:
            yield from self._counting_note(inputs)
        yield from map(rounded_note, map(self._input_column, rounded_columns(inputs)))

    def _counting_note(self, inputs: npt.NDArray[np.float64]) -> Iterator[str]:
        """Yield a note on a first column that counts the rows, if no option chose inputs."""
        rows, count = inputs.shape
        base = inputs[0, 0]
        if self._columns.inputs[0] != 0 or rows < LEAST_ROWS or count < 2 or base not in (0, 1):
            return
        if np.array_equal(inputs[:, 0], np.arange(base, base + rows)):
            others = self._columns.input_names or self._columns.inputs
            yield counting_note(self._columns.shown(0), int(base), others[1:])

    def _add(self, line: int, row: list[str]) -> None:
        columns = self._columns
        if len(row) != columns.count:
            hint = width_hint(row, columns, is_first=not self._lines)
            raise InvalidData(
                f"{self._path}:{line}: {count_text(len(row), 'column')}, expected "
                f"{columns.count} as in the first line{hint}"
            )
        for cells, position in zip(self._cells, columns.apart, strict=True):
            cells.append(row[position])
        if columns.index and row[0].strip() != str(len(self._lines)):
            self._complain_of_index(line, row[0])
        self._lines.append(line)
        if not self._in_order:
            row = [row[position] for position in columns.inputs]
        try:
            # Grouping underscores are numbers to Python alone.
            if "_" in "".join(row):
                raise ValueError
            self._values.extend(map(float, row))
        except ValueError:
            self._complain(line, row)

    def _complain_of_index(self, line: int, cell: str) -> None:
        raise InvalidData(
            f"{self._path}:{line}: the first column has no name and is no row number: "
            f"{quoted(cell)}, expected {len(self._lines)}; name it, or "
            f"{inputs_remedy(self._columns, self._choice)}"
        )

    def _complain(self, line: int, row: list[str]) -> None:
        """Raise InvalidData for the first cell that is no number."""
        for position, cell in enumerate(row):
            if number(cell) is None:
                other = delimiter_hint(row, self._choice)
                hint = number_hint(cell)
                found = (
                    f"{quoted(cell)} is not a number; inputs must be numbers"
                    if cell.strip()
                    else "the cell is empty"
                )
                raise InvalidData(
                    f"{self._path}:{line}: {self._input_column(position)}: {found}"
                    f"{other}{hint}{self._header_hint()}"
                ) from None

    def _header_hint(self) -> str:
        """Return a hint for a bad cell in a first row that was taken for a sample."""
        if self._columns.names or len(self._lines) > 1 or not self._choice.is_guessed:
            return ""
        return (
            "; the first line names the columns only if no input in it is a number, or with "
            f"{self._choice.remedies[0]}"
        )

    def _check_finite(self, inputs: npt.NDArray[np.float64]) -> None:
        finite = np.isfinite(inputs)
        if not finite.all():
            row, position = (int(i) for i in np.argwhere(~finite)[0])
            raise InvalidData(
                f"{self._path}:{self._lines[row]}: {self._input_column(position)}: "
                f"{not_finite(inputs[row, position])}"
            )

    def _input_column(self, position: int) -> str:
        return self._columns.shown(self._columns.inputs[position])


def _occurs_again(cells: list[str]) -> bool:
    """Return whether the first cell occurs in another line, too."""
    first = cells[0].strip()
    return any(cell.strip() == first for cell in islice(cells, 1, None))
