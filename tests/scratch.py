"""Folders for what an MPI library leaves where its processes are killed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

from tests.warden import BACKING, BACKINGS


@contextlib.contextmanager
def scratch() -> Iterator[dict[str, str]]:
    """Variables that name folders for temporary files and shared memory, removed at the end.

    A killed mpirun removes neither, and a later one may get its process number and trip over
    them. The paths are short, for Unix sockets are made in them.
    """
    with (
        tempfile.TemporaryDirectory(prefix="mpi-", ignore_cleanup_errors=True) as temporary,
        tempfile.TemporaryDirectory(
            prefix="mpi-", dir=os.environ.get(BACKING), ignore_cleanup_errors=True
        ) as memory,
    ):
        yield {"TMPDIR": temporary, **dict.fromkeys(BACKINGS, memory)}
