"""`python -m tests.halves OPTIONS ...`: run the tests in two pytest processes at once.

One runs the tests that start processes, which wait for most of their time, and prints as it
goes; the other runs the rest, and its output follows at the end. Each has a warden of its own
(``tests.warden``), so neither sees the other's files and processes.

The options are pytest's; both get them, so a file that ``--junitxml`` names is written twice.

Python's bytecode is written even where the environment forbids it (PYTHONDONTWRITEBYTECODE):
the tests start thousands of processes, and each would compile all modules of dbp.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType
from typing import IO, Final

HALVES: Final = ("processes and not full", "not processes and not full")
NO_TESTS: Final = 5  # exit code of pytest


def main(options: Sequence[str]) -> int:
    """Run both halves; return the exit code of the first that failed."""
    with ExitStack() as stack:
        output = stack.enter_context(tempfile.TemporaryFile())
        processes = [start(HALVES[0], options, None), start(HALVES[1], options, output)]

        def forward(number: int, _: FrameType | None) -> None:
            for process in processes:
                process.send_signal(number)

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both without us
        signal.signal(signal.SIGTERM, forward)
        signal.signal(signal.SIGHUP, forward)
        codes = [process.wait() for process in processes]
        output.seek(0)
        sys.stdout.buffer.write(output.read())
        sys.stdout.flush()
    return exit_code(codes)


def start(
    marks: str, options: Sequence[str], output: IO[bytes] | None
) -> subprocess.Popen[bytes]:
    """Start pytest for the tests with these marks; ``output`` gets all that it prints."""
    command = [sys.executable, "-m", "pytest", "-m", marks, *options]
    stderr = None if output is None else subprocess.STDOUT
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.Popen(command, stdout=output, stderr=stderr, env=environment)


def exit_code(codes: Sequence[int]) -> int:
    """Return pytest's exit code for all tests together.

    Options may select tests of one half only.
    """
    failed = [code for code in codes if code not in (0, NO_TESTS)]
    if not failed:
        return NO_TESTS if set(codes) == {NO_TESTS} else 0
    return failed[0] if failed[0] >= 0 else 128 - failed[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
