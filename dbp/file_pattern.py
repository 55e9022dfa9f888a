"""Match file names with wildcards, in the names of files and folders (day-*/part-*.csv).

A wildcard matches within one name. A path that exists with these very characters is not a
pattern.
"""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Iterator
from fnmatch import translate
from pathlib import Path
from typing import Final

from dbp.data_access import exists, names_in, status_of

MAX_FOLDERS: Final = 10_000
MAX_FILES: Final = 100_000

# Of one folder, of which a pattern may match a few.
MAX_ENTRIES: Final = 1_000_000

_WILDCARDS = frozenset("*?[")


def is_pattern(path: str) -> bool:
    """Return whether a path holds a wildcard (* ? [ ]) and no file has this very name."""
    if not _WILDCARDS & set(path) or exists(path):
        return False
    return any(_WILDCARDS & set(part) for part in _split(path)[1])


def fixed_folder(pattern: str) -> Path:
    """Return the folder of a pattern that is read first: all before its first wildcard."""
    return _split(pattern)[0]


def matching_files(path: str) -> list[str]:
    """Return the paths that match a pattern, sorted by name; ``[path]`` if it is none.

    As in a shell, a name that begins with a dot is matched by a pattern that does so.

    Folders that may not be read hold no matching file.

    Raises:
        OSError: The folder before the first wildcard cannot be read.
        ValueError: The path cannot be one, holds ``**``, or matches too many folders or
            files, or a folder holds too many.
    """
    if not is_pattern(path):
        return [path]
    base, parts = _split(path)
    if any("**" in part for part in parts):
        raise ValueError(
            "** is not supported: write one * for each folder, as in */*/part-*.csv"
        )
    found = [base / name for name in _names(base, parts[0])]
    for part in parts[1:]:
        folders = [folder for folder in found if _is_folder(folder)]
        if len(folders) > MAX_FOLDERS:
            raise ValueError(f"{len(folders):,} folders match; at most {MAX_FOLDERS:,}")
        found = []
        for folder in folders:
            found += [folder / name for name in _readable_names(folder, part)]
            if len(found) > MAX_FILES:
                raise ValueError(f"more than {MAX_FILES:,} files match")
    return [str(file) for file in found]


def starred_texts(pattern: str, path: str) -> tuple[str, ...] | None:
    """Return the text that each ``*`` matches in a path; None for other wildcards.

    An earlier ``*`` matches as much as it can.
    """
    if not _WILDCARDS & set(pattern):
        return None
    base, parts = _split(pattern)
    if any(_WILDCARDS & set(part) - {"*"} for part in parts):
        return None
    names = Path(path).relative_to(base).parts
    if len(names) != len(parts):
        return None
    texts: list[str] = []
    for part, name in zip(parts, names, strict=True):
        found = _starred(part, name)
        if found is None:
            return None
        texts += found
    return tuple(texts)


def _starred(part: str, name: str) -> list[str] | None:
    """Return the text that each ``*`` of one part matches; None if the name does not match.

    The first matches as much as it can, then the second. That is to say that each text
    between two stars stands as far to the right as it can, so that one search from the right
    finds it: trying all ways to share a name between ten stars takes years.
    """
    first, *others = part.split("*")
    if not others:
        return [] if name == part else None
    *inner, last = others
    end = len(name) - len(last)
    if not name.startswith(first) or not name.endswith(last) or end < len(first):
        return None
    texts = []
    for text in reversed(inner):
        place = name.rfind(text, len(first), end)
        if place < 0:
            return None
        texts.append(name[place + len(text) : end])
        end = place
    return [name[len(first) : end], *reversed(texts)]


def _split(pattern: str) -> tuple[Path, list[str]]:
    """Return the folder before the first wildcard, and the remaining parts of the path."""
    parts = list(Path(pattern).parts)
    base = Path()
    while len(parts) > 1:
        if _WILDCARDS & set(parts[0]) and not exists(base / parts[0]):
            break
        base /= parts.pop(0)
    return base, parts


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(status_of(path).st_mode)
    except OSError:  # the folder around it may not be entered
        return False


def _names(folder: Path, part: str) -> Iterator[str]:
    """Yield names in a folder that match a part of a pattern, in order; raises OSError."""
    if not _WILDCARDS & set(part) or exists(folder / part):
        return iter([part] if exists(folder / part) else [])
    matches, with_dot = re.compile(translate(part)).match, part.startswith(".")
    names = []
    with contextlib.closing(names_in(folder)) as found:
        for count, name in enumerate(found):
            if count == MAX_ENTRIES:
                raise ValueError(f"the folder {folder} holds more than {MAX_ENTRIES:,} files")
            if matches(name) and name.startswith(".") <= with_dot:
                names.append(name)
                if len(names) > MAX_FILES:
                    raise ValueError(f"more than {MAX_FILES:,} files match")
    return iter(sorted(names))


def _readable_names(folder: Path, part: str) -> Iterator[str]:
    """Yield the same, or nothing if the folder cannot be read."""
    try:
        return _names(folder, part)
    except OSError:
        return iter(())
