"""Inputs of `dbp predict` from tables: columns are matched to the model's inputs by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from dbp.data.column_order import check_inputs
from dbp.data.csv_lines import open_rows
from dbp.data.csv_table import read_names, read_table
from dbp.data.dataset import NO_OTHERS
from dbp.errors import InvalidData
from dbp.train.columns import MODEL, Columns

Array = npt.NDArray[Any]
Header = Literal["auto", "yes", "no"]
Note = Callable[[str], None]

_DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
_PARQUET: Final = ".parquet"
_REMEDIES: Final = ("--header yes", "--header no")


def ignored(note: str) -> None:
    """A note that goes nowhere."""


def is_text(path: Path) -> bool:
    """Whether a file has columns of text, and perhaps a header."""
    return path.suffix.lower() in _DELIMITERS


def is_table(path: Path) -> bool:
    """Whether a file has columns, which may have names."""
    return is_text(path) or path.suffix.lower() == _PARQUET


def read_columns(path: Path, columns: Columns, header: Header, note: Note) -> Array:
    """The inputs in a table, shape (rows, columns), in the model's order; raises InvalidData.

    Without names, in the file or of the model, they stay where they are. Columns that were
    targets or weight in training are ignored, and all others where the training spec chose
    its inputs. ``note`` gets what was decided about the file.
    """
    if path.suffix.lower() == _PARQUET:
        return _read_parquet(path, columns, note)
    name, delimiter = str(path), _DELIMITERS[path.suffix.lower()]
    others = [other for other in (*columns.others.targets, columns.others.weight) if other]
    if header == "auto" and _names_inputs(name, delimiter, columns):
        header = "yes"
    is_chosen = bool(columns.inputs) and columns.others.ignored and header == "yes"
    if columns.inputs and not is_chosen:
        found = read_names(
            name, delimiter=delimiter, header=header, leave_out=others, remedies=_REMEDIES
        )
        is_chosen = bool(found)
        if found:
            _check(path, found, columns, guessed=header == "auto")
    table = read_table(
        name,
        delimiter=delimiter,
        header=header,
        inputs=columns.inputs if is_chosen else None,
        remedies=_REMEDIES,
    )
    for text in table.notes:
        note(text)
    return table.inputs


def _names_inputs(path: str, delimiter: str, columns: Columns) -> bool:
    """Whether line 1 holds the names of all inputs: then it is a header, whatever they are."""
    if not columns.inputs:
        return False
    with open_rows(path, delimiter) as rows:
        _, first = next(rows, (0, []))
    return set(columns.inputs) <= {cell.strip() for cell in first}


def _check(path: Path, found: tuple[str, ...], columns: Columns, *, guessed: bool) -> None:
    """Raise InvalidData unless the columns found are the model's inputs."""
    if columns.others.ignored:
        wanted = set(columns.inputs)
        found = tuple(name for name in found if name in wanted)
    try:
        check_inputs(found, columns.inputs, NO_OTHERS, MODEL, remedy="leave out that column")
    except InvalidData as error:
        hint = "; if line 1 is a sample: --header no" if guessed else ""
        raise InvalidData(f"{path}: {error}{hint}") from error


def _read_parquet(path: Path, columns: Columns, note: Note) -> Array:
    from dbp.data.parquet_table import ParquetRows, ParquetTable

    table = ParquetTable(str(path))
    chosen = columns.inputs
    if chosen:
        others = (*columns.others.targets, columns.others.weight)
        _check(path, tuple(table.names_beside(others, chosen)), columns, guessed=False)
    else:
        found = table.inputs_beside(())
        chosen = found.names
        for text in found.notes:
            note(text)
    rows = ParquetRows(table, chosen, (len(chosen),), ())
    whole = np.empty(rows.info.shape, rows.info.dtype)
    rows.take(np.arange(len(whole)), whole)
    return whole
