"""Full disks: recognize the error, and keep some space for the service's own records."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar, final

from dbp.errors import DiskFull
from dbp.quantities import count_text

BALLAST_BYTES: Final = 4 << 20
# Released at a time; other processes may take this much before the record is written.
CHUNK_BYTES: Final = 256 << 10
# The ballast is made again once the disk has this much space beyond it.
MARGIN_BYTES: Final = 4 << 20
RESTORE_SECONDS: Final = 5.0
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

T = TypeVar("T")


def is_full(error: BaseException) -> bool:
    """Return whether an error says that the disk or the user's quota is full."""
    return isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in _FULL)


def allocate(descriptor: int, start: int, size: int) -> None:
    """Reserve disk space for ``size`` bytes of an open file, from ``start`` on; OSError.

    Writing these bytes later needs no more space.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, size)
        return
    zeros = bytes(1 << 16)
    for offset in range(start, start + size, len(zeros)):
        part = zeros[: start + size - offset]
        if os.pwrite(descriptor, part, offset) < len(part):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _extend(path: Path) -> None:
    """Reserve a chunk at the end of an existing file, if there is still space for it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            allocate(descriptor, os.fstat(descriptor).st_size, CHUNK_BYTES)
        finally:
            os.close(descriptor)


@final
class Ballast:
    """A file of some MiB that is released, chunk by chunk, where the disk is full.

    So a service can store the end of a job and a request to cancel one on a full disk. It is
    made again when the disk has space. Safe in any thread.
    """

    def __init__(self, path: Path, size: int = BALLAST_BYTES) -> None:
        """Make the file of ``size`` bytes, as far as the disk has space."""
        self._path = path
        self._size = size
        self._lock = threading.Lock()
        self._due = 0.0
        self.held = path.stat().st_size if path.exists() else 0
        self._restore(margin=0)

    def run(self, write: Callable[[], T], *, heir: Path | None = None) -> T:
        """Return ``write()``; where the disk is full release a chunk and repeat.

        ``write`` raises OSError or DiskFull then, and changes nothing. Raises its error when
        nothing is left to release.

        ``heir``: a file that ``write`` appends to, in which the chunk is reserved at once, so
        that no other process takes it. It ends in zeros then.
        """
        while True:
            try:
                return write()
            except (OSError, DiskFull) as error:
                if not is_full(error) or not self.release():
                    raise
                if heir is not None:
                    _extend(heir)

    def check(self) -> None:
        """Raise DiskFull where less than a chunk is free: the rest is for reserved records."""
        free = self._free()
        if free < CHUNK_BYTES:
            raise DiskFull(
                f"{self._path.parent}: the disk is full ({count_text(free, 'byte')} free); "
                "nothing was changed"
            )

    def release(self) -> bool:
        """Release one chunk; return False if nothing is left."""
        with self._lock:
            if not self.held:
                return False
            try:
                self._resize(max(0, self.held - CHUNK_BYTES))
            except OSError:
                self.held = 0  # the file is gone
                return False
            return True

    def restore(self) -> None:
        """Make the missing part again if the disk has space; checks every few seconds only."""
        if self.held < self._size and time.monotonic() >= self._due:
            self._restore(MARGIN_BYTES)

    def _restore(self, margin: int) -> None:
        with self._lock, contextlib.suppress(OSError):  # tried again later
            self._due = time.monotonic() + RESTORE_SECONDS
            if self._free() >= self._size - self.held + margin:
                self._resize(self._size)

    def _free(self) -> int:
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize

    def _resize(self, size: int) -> None:
        """Change the size of the file durably; the old size stays if the disk is full."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            if size > self.held:
                try:
                    allocate(descriptor, self.held, size - self.held)
                except OSError:
                    os.ftruncate(descriptor, self.held)
                    raise
            else:
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)  # some file systems free blocks only then
            self.held = size
        finally:
            os.close(descriptor)
