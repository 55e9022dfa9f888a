"""Exit codes of the `dbp` command and of a rank, and what they mean."""

from __future__ import annotations

import signal
from typing import Final

DONE: Final = 0
FAILED: Final = 1
BAD_INPUT: Final = 2
UNREACHABLE: Final = 3  # the service
WRONG_STATE: Final = 4  # not found, or not in this state
NOT_WRITTEN: Final = 74  # EX_IOERR of sysexits.h: trained, but the files could not be written
STOPPED: Final = 75  # EX_TEMPFAIL: stopped on request; can be resumed
INTERRUPTED: Final = 130  # 128 + SIGINT

_BY_REASON: Final = {
    "INVALID_DATA": BAD_INPUT,
    "DATA_CHANGED": BAD_INPUT,
    "NOT_WRITTEN": NOT_WRITTEN,
}
_BY_STATUS: Final = {"succeeded": DONE, "stopped": STOPPED, "failed": FAILED}


def exit_text(returncode: int) -> str:
    """Return how a child process ended: ``exit code 3``, or ``killed by SIGSEGV``.

    Args:
        returncode: As ``subprocess`` gives it: the negative number of a signal, else the code.
    """
    if returncode >= 0:
        return f"exit code {returncode}"
    known = -returncode in list(signal.Signals)
    return f"killed by {signal.Signals(-returncode).name if known else f'signal {-returncode}'}"


def exit_code_of(status: str, reason: str) -> int:
    """Return the exit code of a run that ended with this status and reason."""
    return _BY_REASON.get(reason, _BY_STATUS[status])
