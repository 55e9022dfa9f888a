"""Lock a run folder, so that only one run at a time uses it, on one host or several.

Rank 0 keeps the lock with flock(2) while its process lives, so a crash releases it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
from pathlib import Path
from typing import Final, Self, final

from dbp.errors import Conflict

LOCK: Final = ".lock"
# Errors of flock on a file system without locks.
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

logger = logging.getLogger("dbp")


@final
class RunLock:
    """An exclusive lock on one run folder."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Use ``take`` instead of the constructor."""
        self._path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, folder: Path) -> Self:
        """Lock an existing folder without waiting.

        Raises Conflict while another run has the lock, OSError if the lock file cannot be
        written.
        """
        path = folder / LOCK
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            try:
                _lock(descriptor, folder)
                if _is_same_file(descriptor, path):
                    _sign(descriptor)
                    return cls(path, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # the file was removed before we had its lock: try again

    def release(self) -> None:
        """Remove the file and unlock; a second call does nothing."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = None


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        process = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        raise Conflict(
            f"{folder}: a run is still active here ({process or 'its process is starting'}); "
            "choose another folder, or stop that run first"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning(
            "%s: this file system has no locks (%s): dbp cannot refuse a second run in the "
            "same folder",
            folder,
            error.strerror,
        )


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    """Write the process that has the lock to the file, for error messages."""
    text = f"process {os.getpid()} on {socket.gethostname()}\n"
    with contextlib.suppress(OSError):  # a full disk; the lock works without it
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
