"""One backup of a state folder at a time: ``backup.lock`` is locked while it is written.

The service starts, stops and serves meanwhile: it has a lock of its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dbp.errors import Conflict
from dbp.launch.file_lock import is_held, take
from dbp.storage.disk_use import remove_folder
from dbp.storage.state_folder import STAGED

_LOCK: Final = "backup.lock"


@contextlib.contextmanager
def backup_lock(state: Path) -> Iterator[None]:
    """Lock the backups of a state folder; Conflict: one is being written; OSError."""
    lock = take(state / _LOCK)
    if lock is None:
        raise Conflict(f"{state}: another dbp backup of it is under way; wait for its end")
    try:
        yield
    finally:
        os.close(lock)


def remove_left(state: Path) -> None:
    """Remove the staged files of a backup that was cut; OSError."""
    staged = state / STAGED
    if staged.exists() and not is_held(state / _LOCK):
        remove_folder(staged)
