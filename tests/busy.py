"""`python -m tests.busy COMMAND ...`: run a command on two cores, beside four busy loops.

Tests see a machine on which others work as well: a process gets a third of a core. The
loops end with the command, and also if this program is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType

from tests.warden import PR_SET_PDEATHSIG, prctl

CORES = 2
LOOPS = 4


def main(command: list[str]) -> int:
    """Run the command; returns its exit code."""
    parent = os.getpid()
    if sys.platform == "linux":
        usable = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, usable[:CORES])  # its children have the same
    loops = [loop(parent) for _ in range(LOOPS)]
    try:
        process = subprocess.Popen(command)

        def forward(number: int, _: FrameType | None) -> None:
            process.send_signal(number)

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the command without us
        signal.signal(signal.SIGTERM, forward)
        signal.signal(signal.SIGHUP, forward)
        code = process.wait()
    finally:
        for pid in loops:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return code if code >= 0 else 128 - code


def loop(parent: int) -> int:
    """Start one busy loop; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    while os.getppid() == parent:
        for _ in range(1_000_000):
            pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
