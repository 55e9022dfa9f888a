"""Bound the freed memory that the C library keeps instead of returning it to the system."""

from __future__ import annotations

import ctypes
import os
from typing import Final

# Parameters of mallopt(3), from malloc.h of glibc.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8

_ARENAS: Final = 1
_SEPARATE_BYTES: Final = 64 << 10
_KEPT_BYTES: Final = 8 << 20


def bound_freed_memory() -> bool:
    """Set the limits of this process's allocator; return whether they are set.

    They are not where the allocator has none, or the user has set some (MALLOC_ARENA_MAX, ...).

    By default glibc makes 8 arenas per processor, and keeps freed blocks of up to 32 MiB there,
    once such a block has been freed. Buffers of cut connections then stay in the arenas of all
    threads of gRPC: hundreds of MiB after seconds of a flood. With one arena they are used
    again, and blocks from 64 KiB, in which gRPC reads large messages, go back to the system
    when they are freed.

    Threads that have an arena keep it: call this before threads are started.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    limits = (
        (_ARENA_MAX, _ARENAS),
        (_MMAP_THRESHOLD, _SEPARATE_BYTES),
        (_TRIM_THRESHOLD, _KEPT_BYTES),
    )
    return all(mallopt(parameter, value) for parameter, value in limits)
