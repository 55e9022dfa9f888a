"""Map the shared memory of a run on this machine, so that parameters need not be copied.

Linux shows a process's descriptors to its own user under /proc. The memory of a run on another
machine, in another container or of another user is not found here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dbp.errors import InvalidInput
from dbp.versions.file import ByteRange

_MEMORY: Final = "/memfd:"


@contextlib.contextmanager
def opened(pid: int, descriptor: int, name: str, offset: int, size: int) -> Iterator[ByteRange]:
    """Open the memory that a process holds under a name, from ``offset`` on.

    Args:
        name: as /proc shows it; a run's is random, so that no other memory is taken for it.

    Raises:
        InvalidInput: there is no such memory here, or it is smaller.
    """
    try:
        own = _open(Path(f"/proc/{pid}/fd/{descriptor}"), name)
    except OSError as error:
        raise _unreadable(name) from error
    try:
        if offset < 0 or os.fstat(own).st_size < offset + size:
            raise InvalidInput(f"memory: it holds no {size} bytes from {offset} on")
        yield ByteRange(own, offset)
    finally:
        os.close(own)


def _open(place: Path, name: str) -> int:
    """Return a new descriptor of the memory; opens nothing else."""
    if not name.startswith(_MEMORY) or str(place.readlink()) != name:
        raise _unreadable(name)
    own = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if (
        str(Path(f"/proc/self/fd/{own}").readlink()) != name
    ):  # the process has put another one there
        os.close(own)
        raise _unreadable(name)
    return own


def _unreadable(name: str) -> InvalidInput:
    return InvalidInput(f"memory: {name[:80]!r} cannot be read here; send the bytes")
