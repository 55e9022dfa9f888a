"""One link process and its pipes, as rank 0 sees it.

It may be started after MPI_Init, where a fork could break MPI: on Linux ``subprocess`` starts
it by vfork and exec, which copy neither memory nor locks and call no handler of MPI. It
inherits neither the variables nor the descriptors of MPI.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import IO, Final, cast, final

from dbp.link.messages import TO_RANK, ToRank, decode

# Variables by which Open MPI, PRRTE, PMIx, MPICH, Hydra, Intel MPI and PALS know a rank.
_MPI_PREFIXES: Final = (
    "OMPI_", "PRTE_", "PMIX_", "PMI_", "MPICH_", "MPIR_", "MPI_LOCAL", "HYDRA_", "HYDI_",
    "I_MPI_", "PALS_",
)  # fmt: skip
END_SECONDS: Final = 1.0

log = logging.getLogger("dbp.rpc")


def without_mpi(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that is not a rank."""
    return {
        name: value for name, value in environ.items() if not name.startswith(_MPI_PREFIXES)
    }


@final
class LinkChild:
    """A link process that has been started; its pipes never block."""

    def __init__(self, memory_fd: int) -> None:
        """Start the process. Raises OSError."""
        self._process = subprocess.Popen(
            # -P: no module in the user's folder replaces one of a library.
            [sys.executable, "-P", "-m", "dbp.link.process", str(memory_fd)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(memory_fd,),
            env=without_mpi(os.environ),
            start_new_session=True,  # a Ctrl-C meant for the ranks must not end the link
            bufsize=0,
        )
        self._input = cast("IO[bytes]", self._process.stdin)
        self._output = cast("IO[bytes]", self._process.stdout)
        os.set_blocking(self._input.fileno(), False)
        os.set_blocking(self._output.fileno(), False)
        self._unsent = bytearray()
        self._unread = bytearray()
        self.ended = False  # it sends nothing more

    @property
    def pid(self) -> int:
        """The link's process id."""
        return self._process.pid

    @property
    def backlog(self) -> int:
        """Number of bytes that the pipe has not taken yet."""
        return len(self._unsent)

    def send(self, line: bytes) -> None:
        """Write a line; bytes that the pipe does not take now wait."""
        self._unsent += line
        self.flush()

    def flush(self) -> None:
        """Write waiting bytes, as far as the pipe takes them."""
        try:
            while self._unsent:
                written = os.write(self._input.fileno(), self._unsent)
                del self._unsent[:written]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._unsent.clear()  # its messages are read to their end

    def close_input(self) -> None:
        """Close the pipe after the last message; waiting bytes are dropped."""
        if not self._input.closed:
            self._unsent.clear()
            self._input.close()

    def receive(self) -> list[ToRank]:
        """Return the messages that have come; one system call if there are none."""
        if self.ended:
            return []
        try:
            data = os.read(self._output.fileno(), 65536)
        except BlockingIOError:
            return []
        self.ended = not data
        self._unread += data
        *lines, rest = bytes(self._unread).split(b"\n")
        self._unread = bytearray(rest)
        try:
            return [decode(line, TO_RANK) for line in lines]
        except ValueError as error:
            log.warning("the link sent a line that is no message: %s", error)
            self.ended = True
            return []

    def wait(self, seconds: float) -> None:
        """Wait until it sends something, ends, or takes waiting bytes."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            if self._unsent:
                selector.register(self._input, selectors.EVENT_WRITE)
            selector.select(max(0.0, seconds))

    def kill(self) -> None:
        """End the process, stopped or not, and close its pipes; see ``reap``."""
        self._process.kill()
        self.close_input()
        self._output.close()
        self.ended = True

    def exit_code(self, seconds: float) -> int | None:
        """Return the exit code, -N for signal N; None if it lives after this time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def reap(self, seconds: float = 0.0) -> str:
        """Reap the process if it has ended; return how it ended, "" if it has not."""
        code = self.exit_code(seconds) if seconds else self._process.poll()
        if code is None:
            return ""
        return f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with code {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
