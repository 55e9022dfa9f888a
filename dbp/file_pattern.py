"""File names with wildcards: which files they stand for. Nothing is opened.

Wildcards stand in the last part of a path alone, so that one folder is looked at, and it is
known before the look which one.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path

_WILDCARDS = frozenset("*?[")


def is_pattern(path: str) -> bool:
    """Whether the file's name holds a wildcard (* ? [ ]) and no file has this very name."""
    return bool(_WILDCARDS & set(Path(path).name)) and not os.path.lexists(path)


def matching_files(path: str) -> list[str]:
    """The paths that a pattern stands for, sorted by name; ``[path]`` if it is no pattern.

    As in a shell, a name that begins with a dot is matched by a pattern that does so. Raises
    OSError where the folder cannot be read, ValueError for a path that cannot be one.
    """
    if not is_pattern(path):
        return [path]
    folder, pattern = Path(path).parent, Path(path).name
    names = sorted(entry.name for entry in folder.iterdir())
    return [
        str(folder / name)
        for name in names
        if fnmatchcase(name, pattern) and name.startswith(".") <= pattern.startswith(".")
    ]


def starred_text(pattern: str, path: str) -> str | None:
    """What the one ``*`` of a pattern stands for in a path; None with other wildcards."""
    before, star, after = Path(pattern).name.partition("*")
    if not star or _WILDCARDS & set(before + after):
        return None
    return Path(path).name.removeprefix(before).removesuffix(after)
