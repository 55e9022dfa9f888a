"""The shared memory of a run on this machine, read where it lies: no bytes have to travel.

Linux shows a process's descriptors to its own user under /proc. A run on another machine, in
another container or of another user has none that is found here under the same name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dbp.control.version_file import Held
from dbp.errors import InvalidInput

_MEMORY: Final = "/memfd:"


@contextlib.contextmanager
def opened(pid: int, descriptor: int, name: str, offset: int, size: int) -> Iterator[Held]:
    """The memory that a process holds under a name, from ``offset`` on, while this lasts.

    ``name``: what /proc calls it; a run's is random, so that no other is taken for it.
    InvalidInput: there is no such memory here, or less of it.
    """
    try:
        own = _open(Path(f"/proc/{pid}/fd/{descriptor}"), name)
    except OSError as error:
        raise _unreadable(name) from error
    try:
        if offset < 0 or os.fstat(own).st_size < offset + size:
            raise InvalidInput(f"memory: it holds no {size} bytes from {offset} on")
        yield Held(own, offset)
    finally:
        os.close(own)


def _open(place: Path, name: str) -> int:
    """A descriptor of one's own; nothing but memory is ever opened."""
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
