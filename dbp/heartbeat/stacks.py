"""Python stacks of a process on request, by a signal that neither MPI nor dbp uses otherwise.

The handler is in C: it also answers while Python code waits in MPI or loops for ever, but not
in a process that is stopped or waits for a disk.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
from pathlib import Path
from typing import Final

# Ignored by default, so a process that has not called ``answer`` survives it.
SIGNAL: Final = signal.SIGURG


def stacks_file(folder: Path, rank: int) -> Path:
    """Return the file with the stacks of a rank, in the folder of its attempt."""
    return folder / f"stacks-{rank}.txt"


def answer(path: Path) -> None:
    """Append the stacks of all threads to the file whenever SIGNAL comes.

    Without the file, for instance on another host, the signal stays ignored.
    """
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        faulthandler.register(SIGNAL, file=os.open(path, flags, 0o600), all_threads=True)
