"""Write a checkpoint in a forked process that outlives this one.

Open MPI's mpirun kills its ranks half a second after Ctrl-C. A checkpoint that a rank has
begun to write is finished by a process that mpirun does not know.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import warnings
from collections.abc import Callable
from pathlib import Path

_OPEN_FILES = Path("/proc/self/fd")


def run_detached(write: Callable[[], object]) -> bool:
    """Call ``write`` in a forked copy of this process and wait for its end.

    Returns False if no process can be forked, or ``write`` raised: then call it here. If this
    process is killed meanwhile, ``write`` continues. Shared memory of ranks is not copied.
    """
    if not hasattr(os, "fork"):
        return False
    try:
        with warnings.catch_warnings():  # on threads: ``write`` uses none of their locks
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
    except OSError:
        return False
    if child == 0:
        _detach_and_run(write)
    try:
        return os.waitpid(child, 0)[1] == 0
    except ChildProcessError:  # the status was collected elsewhere
        return False


def _detach_and_run(write: Callable[[], object]) -> None:
    """Leave the process group that a launcher kills, call ``write``, end the process."""
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        _close_connections()
        write()
        code = 0
    finally:
        os._exit(code)


def _close_connections() -> None:
    """Close pipes, sockets and terminals, so that their readers see end-of-file.

    Regular files stay open, among them the lock of the run folder.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    numbers = [int(p.name) for p in _OPEN_FILES.iterdir()] if _OPEN_FILES.is_dir() else []
    for number in numbers:
        with contextlib.suppress(OSError):  # the one that listed them is closed
            mode = os.fstat(number).st_mode
            if number > 2 and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                os.close(number)
