"""Join the rows of several input files, and remember the file and line of each row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from dbp.cli.predict.arrays import read_array
from dbp.cli.predict.files import InputFile
from dbp.cli.predict.tables import AUTO, TextOptions, read_columns
from dbp.client.inference import shaped_rows
from dbp.column_names import POSITIONAL, Columns
from dbp.errors import DbpError, InvalidData, InvalidInput

Array = npt.NDArray[Any]
FileNote = Callable[[Path, str], None]


@dataclass(frozen=True)
class InputOptions:
    """Options for reading: for text files, and the array's name in files with several."""

    text: TextOptions = AUTO
    array: str = ""


DEFAULTS: Final = InputOptions()


def ignored(path: Path, note: str) -> None:
    """Drop the note of a reader."""


@dataclass(frozen=True)
class FileRows:
    """The file of the rows from ``start`` on; ``lines``: of a text file, one for each row."""

    file: InputFile
    start: int
    lines: Sequence[int] | None


@final
@dataclass(frozen=True)
class InputRows:
    """Rows of all files, shape (n, ...)."""

    rows: Array
    parts: tuple[FileRows, ...]

    def shaped(self, shape: tuple[int, ...]) -> InputRows:
        """Return the rows as inputs of a model, shape (n, *shape); raises InvalidData."""
        file = self.parts[0].file
        if file.is_table and len(shape) == 1 and self.rows.shape[1:] != shape:
            raise InvalidData(
                f"{file.path}: rows of shape {self.rows.shape[1:]}; the model takes {shape}; "
                "leave targets and other columns out"
            )
        try:
            return replace(self, rows=shaped_rows(self.rows, shape))
        except ValueError as error:
            targets = math.prod(self.rows.shape[1:]) > math.prod(shape)
            more = "; leave the targets out" if targets else ""
            raise InvalidData(f"{file.path}: {error}{more}") from error

    def located(self, error: DbpError) -> InvalidData:
        """Return the error with the file, and the line in it or the row, that it is about."""
        row = error.metadata.get("row", "")
        if not row.isdecimal():
            return InvalidData(f"{self.parts[0].file.path}: {error}")
        part = max(
            (part for part in self.parts if part.start <= int(row)), key=lambda p: p.start
        )
        own = int(row) - part.start
        stated = f"row {row} (counted from 0)"
        if part.lines is None:
            text = str(error).replace(stated, f"row {own} (counted from 0)", 1)
            return InvalidData(f"{part.file.path}: {text}")
        text = str(error).replace(f"{stated}, ", "", 1).replace(f"{stated}: ", "", 1)
        return InvalidData(f"{part.file.path}:{part.lines[own]}: {text}")


def read_rows(
    files: Sequence[InputFile],
    columns: Columns = POSITIONAL,
    options: InputOptions = DEFAULTS,
    note: FileNote = ignored,
) -> InputRows:
    """Return the rows of all files, in whatever shape they have there; raises InvalidData.

    Args:
        files: At least one.
        columns: Of the model; those of a table are matched to them by name.
        options: How the files are read.
        note: Receives the readers' notes on each file.
    """
    arrays: list[Array] = []
    parts: list[FileRows] = []
    start = 0
    for file in files:
        array, lines = _read(file, columns, options, note)
        if arrays and array.shape[1:] != arrays[0].shape[1:]:
            raise InvalidData(
                f"{file.path}: rows of shape {array.shape[1:]}, but those of {files[0].path} "
                f"have {arrays[0].shape[1:]}; files that are read together must be alike"
            )
        arrays.append(array)
        parts.append(FileRows(file, start, lines))
        start += len(array)
    return InputRows(arrays[0] if len(arrays) == 1 else np.concatenate(arrays), tuple(parts))


def _read(
    file: InputFile, columns: Columns, options: InputOptions, note: FileNote
) -> tuple[Array, Sequence[int] | None]:
    if options.text != AUTO and not file.is_text:
        raise InvalidInput(f"--header, --delimiter: {file.path} is no .csv or .tsv file")
    if file.is_table and options.array:
        raise InvalidInput(f"--array: {file.path} is a table, whose columns are the inputs")
    if file.is_table:
        table = read_columns(file, columns, options.text, lambda text: note(file.path, text))
        return table.inputs, table.lines
    return read_array(file, options.array), None
