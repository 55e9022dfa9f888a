"""Read inputs of `dbp predict` from tables; match columns to the model's inputs by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from dbp.cli.predict.files import InputFile
from dbp.column_names import Columns, check_table, normalized_name
from dbp.data.csv import CSV
from dbp.data.csv_columns import COMMENT_REMEDY, delimiter_option, is_comment, likely_delimiter
from dbp.data.csv_header import counts
from dbp.data.csv_lines import open_rows
from dbp.data.csv_table import read_names, read_table
from dbp.data.number_text import number
from dbp.errors import InvalidData, InvalidInput

Array = npt.NDArray[Any]
Header = Literal["auto", "yes", "no"]
Note = Callable[[str], None]

_DELIMITERS: Final = {"csv": ",", "tsv": "\t"}
_REMEDIES: Final = ("--header yes", "--header no")


@dataclass(frozen=True)
class TextOptions:
    """Options for text files: whether line 1 is a header, and the delimiter.

    ``delimiter``: "" for a comma in .csv and a tab in .tsv.
    """

    header: Header = "auto"
    delimiter: str = ""

    def delimiter_of(self, file: InputFile) -> str:
        """Return the character between the columns of a file; InvalidInput if invalid."""
        chosen = self.delimiter.replace("\\t", "\t") or _DELIMITERS[file.kind]
        try:
            return CSV(path=str(file.path), delimiter=chosen).delimiter
        except ValueError as error:
            raise InvalidInput(f"--{error}") from error


AUTO: Final = TextOptions()


@dataclass(frozen=True)
class TableRows:
    """Inputs of a table, shape (rows, columns); ``lines``: of a text file, one for each row."""

    inputs: Array
    lines: Sequence[int] | None = None


def read_columns(file: InputFile, columns: Columns, text: TextOptions, note: Note) -> TableRows:
    """Return the inputs in a table, in the model's order; raises InvalidData.

    If the file or the model has no names, columns keep their order. Columns that were targets
    or weight in training are ignored, and all others if the training spec chose its inputs.
    ``note`` receives the reader's notes on the file.
    """
    path = file.path
    if not file.is_text:
        return TableRows(_read_parquet(path, columns, note))
    name, header, delimiter = str(path), text.header, text.delimiter_of(file)
    others = [other for other in (*columns.others.targets, columns.others.weight) if other]
    if header == "auto" and _names_inputs(name, delimiter, columns):
        header = "yes"
        if counts(columns.inputs):
            note(f"line 1 numbers the inputs: it is the header, unless you add {_REMEDIES[1]}")
    is_chosen = bool(columns.inputs) and columns.others.ignored and header == "yes"
    if columns.inputs and not is_chosen:
        found = read_names(
            name, delimiter=delimiter, header=header, leave_out=others, remedies=_REMEDIES
        )
        is_chosen = bool(found)
        if found:
            _check(path, found, columns, _hint(found, header, delimiter))
    table = read_table(
        name,
        delimiter=delimiter,
        header=header,
        inputs=columns.inputs if is_chosen else None,
        remedies=_REMEDIES,
    )
    for decision in table.notes:
        note(decision)
    return TableRows(table.inputs, table.lines)


def _names_inputs(path: str, delimiter: str, columns: Columns) -> bool:
    """Whether line 1 holds the names of all inputs; then it is a header.

    Raises InvalidData if all of them are numbers, such as years, and line 1 holds some of them.
    """
    if not columns.inputs:
        return False
    with open_rows(path, delimiter) as rows:
        line, first = next(rows, (0, []))
    names, cells = set(columns.inputs), set(map(normalized_name, first))
    if names <= cells:
        return True
    known = sorted(names & cells)
    are_numbers = all(number(text) is not None for text in (*columns.inputs, *first))
    if known and are_numbers and not counts(columns.inputs):
        raise InvalidData(
            f"{path}:{line}: {known[0]!r} is the name of an input, but not all inputs are "
            "named here: is the line a header or a sample? Add --header yes or --header no"
        )
    return False


def _hint(found: tuple[str, ...], header: Header, delimiter: str) -> str:
    """Return another likely reason why these names are not the inputs."""
    if header == "auto" and all(number(name) is not None for name in found):
        return "; if line 1 is a sample: --header no"
    if is_comment(found):
        return f"; {COMMENT_REMEDY}"
    if other := likely_delimiter(found, delimiter):
        return (
            f"; line 1 holds no {delimiter!r}: is the delimiter another one "
            f"({delimiter_option(other)})?"
        )
    return ""


def _check(path: Path, found: tuple[str, ...], columns: Columns, hint: str = "") -> None:
    """Raise InvalidData unless the columns found are the model's inputs."""
    try:
        check_table(found, columns)
    except InvalidData as error:
        raise InvalidData(f"{path}: {error}{hint}") from error


def _read_parquet(path: Path, columns: Columns, note: Note) -> Array:
    from dbp.data.parquet_table import ParquetRows, ParquetTable

    table = ParquetTable(str(path), can_choose=False)
    chosen = columns.inputs
    if chosen:
        others = (*columns.others.targets, columns.others.weight)
        _check(path, tuple(table.names_beside(others, chosen)), columns)
    else:
        found = table.inputs_beside(())
        chosen = found.names
        for decision in found.notes:
            note(decision)
    rows = ParquetRows(table, chosen, (len(chosen),), ())
    whole = np.empty(rows.info.shape, rows.info.dtype)
    rows.take(np.arange(len(whole)), whole)
    return whole
