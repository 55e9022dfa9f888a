"""Find the input files of `dbp predict` and the format of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dbp.data.content import TEXT_KINDS, Content, recognize
from dbp.data.file import DataFile
from dbp.data.many_files import matching
from dbp.errors import InvalidData, InvalidInput

# Suffixes and the readers of such files; the first suffix of a reader is the one to name.
_SUFFIXES: Final = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".parquet": "parquet", ".pq": "parquet",
    ".npy": "npy", ".npz": "npz", ".h5": "hdf5", ".hdf5": "hdf5", ".mat": "hdf5",
    ".safetensors": "safetensors", ".idx": "idx",
}  # fmt: skip
_TABLES: Final = (*TEXT_KINDS, "parquet")


@dataclass(frozen=True)
class InputFile:
    """A file of inputs; ``kind``: the reader of its format."""

    path: Path
    kind: str

    @property
    def is_text(self) -> bool:
        """Whether it has columns of text, and perhaps a header."""
        return self.kind in TEXT_KINDS

    @property
    def is_table(self) -> bool:
        """Whether it has columns, which may have names."""
        return self.kind in _TABLES


def find_files(names: Sequence[str | Path]) -> list[InputFile]:
    """Return the files that names and patterns stand for, in this order.

    Raises InvalidInput for standard input, InvalidData where no file matches, a file cannot
    be read, or its format is unknown or not the one that its name says.
    """
    if "-" in map(str, names):
        raise InvalidInput("-: files are read, not standard input; write it to a file first")
    return [
        InputFile(Path(path), kind_of(path)) for name in names for path in matching(str(name))
    ]


def kind_of(path: str) -> str:
    """Return the reader of a file, by its suffix, else by its content; raises InvalidData."""
    named = _SUFFIXES.get(Path(path).suffix.lower(), "")
    found = recognize(DataFile(path))
    if found is None:
        if not named:
            raise InvalidData(
                f"{path}: neither its name nor its content shows a known format; known: "
                f"{', '.join(_SUFFIXES)} and IDX files of any name"
            )
        return named
    if not found.kind or (named != found.kind and not found.is_sound):
        raise InvalidData(f"{path}: looks like {found.name}; {found.remedy}")
    if named and named != found.kind and not {named, found.kind} <= set(TEXT_KINDS):
        raise InvalidData(_misnamed(path, found))
    return named or found.kind


def _misnamed(path: str, found: Content) -> str:
    suffix = next(suffix for suffix, kind in _SUFFIXES.items() if kind == found.kind)
    file = Path(path)
    return (
        f"{path}: is named {file.suffix}, but looks like {found.name}; rename it to "
        f"{file.with_suffix(suffix).name}"
    )
