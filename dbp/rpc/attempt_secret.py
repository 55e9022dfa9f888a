"""The secret of an attempt: the metadata that carries it, and the mark of the attempt's memory.

The service makes the secret, so only the attempt and the service know the mark. The link writes
the mark at the end of the memory in which the run publishes parameters; the service reads no
memory without it.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import Final

# Key of the metadata of WorkerService's calls.
ATTEMPT_SECRET: Final = "dbp-attempt-secret"  # noqa: S105 - the name of a key
_PURPOSE: Final = b"dbp: parameters in memory\0"


def mark_of(secret: str) -> bytes:
    """Return the mark, 32 bytes, from which the secret does not follow."""
    return sha256(_PURPOSE + secret.encode()).digest()


def write_mark(memory: int, secret: str) -> None:
    """Append the mark to a memory (a descriptor), unless it ends with it. Raises OSError."""
    mark, size = mark_of(secret), os.fstat(memory).st_size
    if os.pread(memory, len(mark), max(0, size - len(mark))) != mark:
        os.pwrite(memory, mark, size)
