"""The output of a rank on its own way to the supervisor: a named pipe for each rank.

mpirun mixes the output of its ranks, and its tags do not help: Open MPI prints the rest of a
line without one, and MPICH puts them within lines.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

VARIABLE: Final = "DBP_RANK_OUTPUT"  # folder of the pipes, in the environment of the ranks


def make_pipes(folder: Path, ranks: int) -> list[int]:
    """Make the pipes of the ranks; return their non-blocking descriptors for reading."""
    readers = []
    for rank in range(ranks):
        path = _pipe(folder, rank)
        os.mkfifo(path, 0o600)
        # Also for writing: it never reaches an end, and a rank that opens it does not wait.
        readers.append(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    return readers


def use_own_pipe(rank: int, environ: Mapping[str, str]) -> None:
    """Let stdout and stderr of this process lead to the pipe of its rank, if it has one.

    The pipes to mpirun stay open: it would take their end for the end of the rank.
    """
    if VARIABLE not in environ:
        return
    try:
        pipe = os.open(_pipe(Path(environ[VARIABLE]), rank), os.O_WRONLY)
    except FileNotFoundError:  # on another host
        return
    for descriptor in (1, 2):
        os.dup(descriptor)
        os.dup2(pipe, descriptor)
    os.close(pipe)


def _pipe(folder: Path, rank: int) -> Path:
    return folder / f"output-{rank}"
