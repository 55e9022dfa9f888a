"""Map the shared memory of a run on this machine, so that parameters need not be copied.

Linux shows a process's descriptors to its own user under /proc. The memory of a run on another
machine, in another container or of another user is not found here. A caller could name the
memory of any other program of this user: only memory that ends with the mark of the caller's
attempt is read.
"""

from __future__ import annotations

import contextlib
import hmac
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dbp.errors import InvalidInput
from dbp.versions.file import ByteRange

_MEMORY: Final = "/memfd:"


@contextlib.contextmanager
def opened(
    pid: int, descriptor: int, name: str, offset: int, size: int, *, mark: bytes
) -> Iterator[ByteRange]:
    """Open the memory that a process holds under a name, from ``offset`` on.

    Args:
        name: as /proc shows it.
        mark: last bytes of the memory, which only the attempt and the service know.

    Raises:
        InvalidInput: there is no such memory here, it has another mark, or it is smaller.
    """
    try:
        own = _open(Path(f"/proc/{pid}/fd/{descriptor}"), name)
    except OSError as error:
        raise _unreadable(name) from error
    try:
        held = os.fstat(own).st_size - len(mark)
        if held < 0 or not hmac.compare_digest(os.pread(own, len(mark), held), mark):
            raise _unreadable(name)
        if offset < 0 or held < offset + size:
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
