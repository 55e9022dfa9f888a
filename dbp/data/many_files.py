"""Open a reader whose file options contain wildcards: one reader per file, joined."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from dbp.data import rows
from dbp.data.concatenated import ConcatenatedDataset, concatenated_info
from dbp.data.content import check_content
from dbp.data.dataset import DataInfo, Dataset, Reader
from dbp.data.file import DataFile
from dbp.data.target_kind import mixed_kinds, reader_of_kind
from dbp.data_access import is_confined
from dbp.errors import InvalidData, nearest
from dbp.file_pattern import fixed_folder, is_pattern, matching_files, starred_texts
from dbp.quantities import count_text

# Names that are searched for a similar one, and names shown.
_NAMES: Final = 1_000
_LISTED: Final = 5

_Reader = TypeVar("_Reader", bound=Reader)


def open_files(
    reader: _Reader, open_one: Callable[[_Reader, int], Dataset], *, kind: str
) -> Dataset:
    """Return the data set of all files that the reader's file options match; raises
    InvalidData.

    ``open_one``: of a reader of one file each, and the bytes an array may take in memory.
    ``kind``: name of the reader, whose files must not be of another format.
    """
    parts = _each_file(reader, kind)
    limit = rows.IN_MEMORY_BYTES // len(parts)
    opened = [open_one(part, limit) for part in parts]
    for place in mixed_kinds([part.info for part in opened]):
        opened[place] = open_one(reader_of_kind(parts[place], "values"), limit)
    return opened[0] if len(opened) == 1 else ConcatenatedDataset(opened, _names(parts))


def inspect_files(
    reader: _Reader, inspect_one: Callable[[_Reader], DataInfo], *, kind: str
) -> DataInfo:
    """Return the DataInfo of all files that match the reader's options; raises InvalidData."""
    parts = _each_file(reader, kind)
    infos = [inspect_one(part) for part in parts]
    for place in mixed_kinds(infos):
        infos[place] = inspect_one(reader_of_kind(parts[place], "values"))
    return infos[0] if len(infos) == 1 else concatenated_info(infos, _names(parts))


def _each_file(reader: _Reader, kind: str) -> list[_Reader]:
    """Return a reader for each file, in the order of names, after checking the contents."""
    paths = file_options(reader)
    found = {name: matching(path) for name, path in paths.items()}
    for file in itertools.chain.from_iterable(found.values()):
        check_content(DataFile(file), kind)
    if not any(is_pattern(path) for path in paths.values()):
        return [reader]
    first = next(iter(found))
    for name, files in found.items():
        if len(files) != len(found[first]):
            raise InvalidData(
                f"{paths[first]} matches {count_text(len(found[first]), 'file')}, but "
                f"{paths[name]} matches {len(files):,}; they must belong together one by one"
            )
        _check_pairs(paths[first], found[first], paths[name], files)
    return [
        dataclasses.replace(reader, **dict(zip(found, files, strict=True)))  # type: ignore[type-var]
        for files in zip(*found.values(), strict=True)
    ]


def _check_pairs(pattern: str, files: list[str], other_pattern: str, others: list[str]) -> None:
    """Raise InvalidData if a file's partner would have another number."""
    for file, other in zip(files, others, strict=True):
        texts, other_texts = starred_texts(pattern, file), starred_texts(other_pattern, other)
        if texts is None or other_texts is None or len(texts) != len(other_texts):
            continue
        for text, other_text in zip(texts, other_texts, strict=True):
            if text != other_text:
                raise InvalidData(
                    f"{file} would be read together with {other}: one is {text!r}, the other "
                    f"{other_text!r}; is a file missing?"
                )


def matching(path: str) -> list[str]:
    """Return the files that a name or pattern matches; raises InvalidData if none matches."""
    try:
        files = matching_files(path)
        if not files:
            raise InvalidData(f"{path}: {_unmatched(path)}")
    except FileNotFoundError as error:
        raise InvalidData(f"{path}: there is no folder {fixed_folder(path)}") from error
    except OSError as error:
        raise InvalidData(f"{path}: {error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidData(f"{path}: {error}") from error
    return files


def _unmatched(pattern: str) -> str:
    """Return the part of a pattern that matches nothing, with the nearest or all names."""
    if is_confined():
        return "no file matches"  # names of other files are their owners'
    folder = Path(pattern).parent
    folders = matching_files(str(folder))
    if not folders:
        return f"no folder matches {folder}: {_unmatched(str(folder))}"
    entries = itertools.chain.from_iterable(map(_entries, folders))
    names = sorted({entry.name for entry in itertools.islice(entries, _NAMES)})
    hint = nearest(Path(pattern).name, names)
    if not hint:
        more = ", ..." if len(names) > _LISTED else ""
        hint = f"; {folder} holds {', '.join(names[:_LISTED]) or 'nothing'}{more}"
    return f"no file matches{hint}"


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a folder; none if it is a file or cannot be read."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        yield from entries


def _names(parts: list[Any]) -> list[str]:
    return [next(iter(file_options(part).values())) for part in parts]


def file_options(reader: Any) -> dict[str, str]:
    """Return the file options of a reader that are set, in the order they are declared."""
    names = [field.name for field in dataclasses.fields(reader) if field.metadata.get("file")]
    return {name: getattr(reader, name) for name in names if getattr(reader, name) is not None}
