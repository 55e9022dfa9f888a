"""Lock a file with flock(2): the kernel releases the lock when its holders have ended.

A lock proves that its holder lives, whatever happens to clocks and pids. Processes share it by
sharing its descriptor.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Final

_PAUSE_SECONDS: Final = 0.05


def take(path: Path, patience: float = 1.0) -> int | None:
    """Create and lock a file; return its descriptor, or None if it stays locked by another.

    ``patience`` (seconds) is more than a process takes that only calls ``is_held``.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        if time.monotonic() >= deadline:
            os.close(descriptor)
            return None
        time.sleep(_PAUSE_SECONDS)


def is_held(path: Path) -> bool:
    """Return whether a process has locked the file; False if there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two processes that look at the same time do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
