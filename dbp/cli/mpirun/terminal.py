"""The terminal of ``dbp train -n N``, as its ranks see it.

Ranks write into pipes of mpirun. The command that started mpirun names its terminal in the
environment, so that rank 0 can draw a progress bar of the right width there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from dbp.launching import Launch

STARTED_BY_DBP: Final = "DBP_MPIRUN_PARENT"  # pid of the process that watches mpirun
_VARIABLES: Final = {1: "DBP_STDOUT_TERMINAL", 2: "DBP_STDERR_TERMINAL"}


def terminal_environment() -> dict[str, str]:
    """Return the variables that describe this process and its terminal to the ranks."""
    environment = {STARTED_BY_DBP: str(os.getpid())}
    for descriptor, variable in _VARIABLES.items():
        with contextlib.suppress(OSError):
            environment[variable] = os.ttyname(descriptor)
    return environment


def shows_terminal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a rank's output to ``stream`` appears on a terminal as soon as it is written.

    Not under a bare mpirun: Open MPI's keeps a line until it is complete, and the line of a
    progress bar never is.
    """
    return _variable(stream) in environ


def kills_ranks(place: Launch, environ: Mapping[str, str]) -> bool:
    """Whether a launcher started this rank that may kill it soon after a Ctrl-C."""
    return place.launcher != "none" and STARTED_BY_DBP not in environ


def rank_console(stream: TextIO, environ: Mapping[str, str]) -> Console:
    """Return a console on ``stream`` that follows the size of the terminal it appears on."""
    from rich.console import Console

    path = environ.get(_variable(stream))
    if path is None:
        return Console(file=stream)
    console = Console(file=stream, force_terminal=True)

    def measure(*_: object) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone, or on another host
            descriptor = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                columns, lines = os.get_terminal_size(descriptor)
            finally:
                os.close(descriptor)
            if columns > 0 and lines > 0:
                console.size = columns, lines

    measure()
    signal.signal(signal.SIGWINCH, measure)
    return console


def _variable(stream: TextIO) -> str:
    return _VARIABLES[2 if stream is sys.stderr else 1]
