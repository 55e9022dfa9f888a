"""Check that file paths from clients are regular files inside allowed folders.

These paths are untrusted: nothing is expanded or decoded. The same folders bound the readers
when they open the files, here and in the ranks.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Final

from dbp.data_access import DataAccess, status_of, using
from dbp.data_roots import DataRoots, PathRefusedError
from dbp.errors import InvalidSpec, Violation
from dbp.file_pattern import is_pattern, matching_files
from dbp.job.spec.fields import shown
from dbp.job.spec.files import file_options

MAX_PATH: Final = 4095

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def check_paths(document: object, roots: DataRoots) -> None:
    """Raise InvalidSpec for every file option outside the roots."""
    violations = []
    with using(DataAccess(roots)):
        for option in file_options(document):
            try:
                for file in _matching(option.file, roots):
                    _check_file(file, roots)
            except ValueError as error:
                violations.append(Violation(option.path, str(error)))
    if violations:
        raise InvalidSpec(violations)


def _matching(path: str, roots: DataRoots) -> list[str]:
    """Return the files that a pattern matches, not yet checked; a plain path as itself.

    Raises ValueError if none matches. The contents of folders are revealed only by that.
    """
    _check_form(path)
    if not is_pattern(path):
        return [path]
    try:
        files = matching_files(path)
    except OSError as error:
        raise _refusal(path, error, roots) from error
    if not files:
        raise ValueError(f"no file matches {shown(path)}")
    return files


def _check_file(path: str, roots: DataRoots) -> None:
    """Raise ValueError unless this is a regular file inside one of the roots.

    The reason does not reveal whether a file outside exists.
    """
    _check_form(path)
    try:
        mode = status_of(path).st_mode
    except OSError as error:
        raise _refusal(path, error, roots) from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise ValueError(f"must be a regular file, but {shown(path)} is {kind}")


def _check_form(path: str) -> None:
    problem = _form_problem(path)
    if problem is not None:
        raise ValueError(f"{problem}, got {shown(path)}")


def _refusal(path: str, error: OSError, roots: DataRoots) -> ValueError:
    """Return the error for a file that cannot be opened."""
    if not isinstance(error, PathRefusedError):
        return ValueError(f"{shown(path)}: {error.strerror or error}")
    if not error.outside:
        return ValueError(f"{shown(path)}: {error.strerror}")
    names = ", ".join(root.name for root in roots.roots) or "none is set"
    through = ", which leads outside through a symbolic link" if error.by_link else ""
    return ValueError(
        f"must lie inside a folder that the service may read ({names}), got "
        f"{shown(path)}{through}; move the file there, or restart the service with its folder, "
        "too: dbp serve --data-root FOLDER (may be repeated)"
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
