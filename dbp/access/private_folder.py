"""Folders that only their owner may open or change, verified by owner and mode."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dbp.errors import Unavailable

PRIVATE = 0o700


def make_private(folder: Path) -> Path:
    """Make a folder of mode 0700 if it is absent; return it.

    Raises Unavailable if the folder is a link, belongs to another user, or is open to others;
    OSError if it cannot be made.
    """
    folder.mkdir(PRIVATE, exist_ok=True)
    check_private(folder)
    return folder


def check_private(path: Path, owners: tuple[int, ...] = ()) -> None:
    """Raise Unavailable unless only this process's user (or one of ``owners``) may use a path.

    Raises FileNotFoundError where nothing has this name.
    """
    found = path.lstat()
    allowed = owners or (os.geteuid(),)
    if stat.S_ISLNK(found.st_mode):
        raise Unavailable(f"{path}: is a symbolic link, which another user may have made")
    if found.st_uid not in allowed:
        raise Unavailable(
            f"{path}: belongs to uid {found.st_uid}, not to uid {os.geteuid()}: another user "
            "may have made it; remove it, or set XDG_RUNTIME_DIR to a folder of your own"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise Unavailable(
            f"{path}: must be closed to other users, has mode {mode:04o}; chmod go= {path}"
        )
