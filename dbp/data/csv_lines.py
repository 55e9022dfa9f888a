"""Read rows of cells from a text file, with line numbers. Cells stay text here."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from dbp.data import text_encoding
from dbp.data.file import DataFile
from dbp.data.quoting import hint
from dbp.data.reading import HEAD
from dbp.errors import InvalidData

# A longer line is no row of samples; without a limit a file without line ends would be
# taken into memory as one.
MAX_LINE_BYTES = 16 * 2**20

# Each cell of a line is an object of its own while the line is parsed.
MAX_COLUMNS = 200_000

# In a row; a file of line ends alone is no table.
MAX_BLANK_LINES = 1_000_000

NumberedRow = tuple[int, list[str]]


@contextmanager
def open_rows(path: str, delimiter: str) -> Iterator[Iterator[NumberedRow]]:
    """Yield an iterator of the non-blank rows, with their lines; raises InvalidData."""
    file = DataFile(path)
    with file.stream() as stream:
        lines = _Lines(path, stream, delimiter)
        yield _numbered(path, csv.reader(lines, delimiter=delimiter, strict=True), lines)


class _Lines:
    """The lines of a file, decoded one by one, none of them too long."""

    def __init__(self, path: str, stream: BinaryIO, delimiter: str) -> None:
        self._path = path
        self._stream = stream
        self._delimiter = delimiter.encode()
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        head, done = HEAD.get(), 0
        while raw := self._stream.readline(MAX_LINE_BYTES + 1):
            done += len(raw)
            if head is not None and done > head and self.number:
                return
            self.number += 1
            if len(raw) > MAX_LINE_BYTES:
                raise InvalidData(
                    f"{self._path}:{self.number}: a line of more than {MAX_LINE_BYTES:,} bytes"
                )
            if len(raw) > MAX_COLUMNS and raw.count(self._delimiter) >= MAX_COLUMNS:
                raise InvalidData(
                    f"{self._path}:{self.number}: more than {MAX_COLUMNS:,} columns; store "
                    "samples this wide as an array (numpy.save) and read them with "
                    'kind = "npy"'
                )
            try:
                yield raw.decode("utf-8-sig" if self.number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InvalidData(
                    f"{self._path}:{self.number}: not UTF-8 text: byte"
                    f"{hint(f' {raw[error.start]:#04x}')} "
                    f"at byte {error.start + 1} of the line; {_encoding_hint(self._path, raw)}"
                ) from error


def _numbered(path: str, rows: Iterator[list[str]], lines: _Lines) -> Iterator[NumberedRow]:
    """Yield the rows that are not blank, each with its line; errors name file and line."""
    first, blank = 1, 0
    try:
        for row in rows:
            if len(row) > 1 or (row and row[0].strip()):
                blank = 0
                yield lines.number, row
            else:
                blank += 1
                if blank > MAX_BLANK_LINES:
                    raise InvalidData(
                        f"{path}:{lines.number}: more than {MAX_BLANK_LINES:,} blank lines "
                        "in a row; remove them"
                    )
            first = lines.number + 1
    except csv.Error as error:
        problem = _explained(path, str(error), first)
        raise InvalidData(f"{path}:{lines.number}: {problem}") from error


def _explained(path: str, problem: str, first: int) -> str:
    """Return a message of Python's csv parser in plain words; ``first``: of the row's lines."""
    if " expected after " in problem:
        return (
            'another character than the delimiter stands after a closing quote ("); write a '
            'quote in a cell twice (""), or is the delimiter another one?'
        )
    if problem == "unexpected end of data":
        return f'the file ends in a quoted cell; a quote (") of line {first} is never closed'
    if problem.startswith("field larger than field limit"):
        return (
            f"a cell of more than {csv.field_size_limit():,} characters; is a quote in line "
            f"{first} never closed, or the delimiter another one?"
        )
    if "new-line character seen in unquoted field" in problem:
        remedy = text_encoding.line_ends_remedy(path)
        return f"CR without LF in the line, the line end of old Macintosh files; {remedy}"
    return problem


def _encoding_hint(path: str, line: bytes) -> str:
    """Return the remedy for a line that is not UTF-8."""
    if text_encoding.is_text(line):
        return text_encoding.eight_bit_remedy(path)
    return "is this a binary file?"
