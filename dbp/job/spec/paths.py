"""Check that file paths from clients are regular files inside allowed folders. Opens nothing.

These paths are untrusted: symbolic links are followed before the check, nothing is expanded or
decoded, and nothing outside the allowed folders is looked at.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from dbp.errors import InvalidSpec, Violation
from dbp.file_pattern import fixed_folder, is_pattern, matching_files
from dbp.job.spec.fields import shown
from dbp.job.spec.files import file_options

MAX_PATH: Final = 4095

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def check_paths(document: object, roots: Sequence[str | os.PathLike[str]]) -> None:
    """Raise InvalidSpec for every file option outside the roots."""
    violations = []
    for option in file_options(document):
        try:
            for file in contained_files(option.file, roots):
                contained(file, roots)
        except ValueError as error:
            violations.append(Violation(option.path, str(error)))
    if violations:
        raise InvalidSpec(violations)


def contained_files(path: str, roots: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return the files that match a pattern, not yet checked; a plain path as itself.

    Raises ValueError if none matches. Each folder is checked before it is read; its contents
    are revealed only by whether a file matches.
    """
    if not is_pattern(path):
        return [path]
    _check_form(path)
    _check_inside(Path(os.path.realpath(fixed_folder(path))), path, roots)
    try:
        files = matching_files(path, lambda folder: _is_inside(folder, roots))
    except OSError as error:
        raise ValueError(f"{shown(path)}: {error.strerror or error}") from error
    if not files:
        raise ValueError(f"no file matches {shown(path)}")
    return files


def contained(path: str, roots: Iterable[str | os.PathLike[str]]) -> Path:
    """Return the real path of a regular file inside one of the roots.

    Raises ValueError with the reason, which does not reveal whether a file outside exists.
    """
    _check_form(path)
    real = Path(os.path.realpath(path))
    _check_inside(real, path, roots)
    try:
        mode = real.stat().st_mode
    except OSError as error:
        raise ValueError(f"{shown(path)}: {error.strerror or error}") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise ValueError(f"must be a regular file, but {shown(path)} is {kind}")
    return real


def _check_form(path: str) -> None:
    problem = _form_problem(path)
    if problem is not None:
        raise ValueError(f"{problem}, got {shown(path)}")


def _is_inside(path: Path, roots: Iterable[str | os.PathLike[str]]) -> bool:
    """Whether the real path lies inside one of the roots."""
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(root)) for root in roots)


def _check_inside(real: Path, path: str, roots: Iterable[str | os.PathLike[str]]) -> None:
    """Raise ValueError unless the real path lies inside one of the roots."""
    allowed = [Path(os.path.realpath(root)) for root in roots]
    if any(real.is_relative_to(root) for root in allowed):
        return
    linked = any(Path(os.path.normpath(path)).is_relative_to(root) for root in allowed)
    through = ", which leads outside through a symbolic link" if linked else ""
    raise ValueError(
        "must lie inside a folder that the service may read "
        f"({', '.join(map(str, allowed)) or 'none is set'}), got {shown(path)}{through}; move "
        "the file there, or restart the service with its folder, too: dbp serve --data-root "
        "FOLDER (may be repeated)"
    )


def _form_problem(path: str) -> str | None:
    """Return the fault in the text of a path, or None; looks nothing up."""
    if not path or len(os.fsencode(path)) > MAX_PATH:
        return f"must have 1 to {MAX_PATH} bytes"
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        return "must hold no control characters"
    if _URL.match(path):
        return "must be a file path, no URL"
    if "\\" in path:
        return "must hold no backslash"
    if not path.startswith("/"):
        return "must be an absolute path on the service's machine"
    return None
