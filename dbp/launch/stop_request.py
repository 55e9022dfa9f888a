"""Ask the ranks of an attempt to stop after their step, once they can, and note who asked.

mpirun grants its ranks less than a second after SIGTERM, in which no checkpoint fits. So it
runs with the signals blocked that ask for its end: the kernel keeps such a signal, the
supervisor sees it there, and asks the ranks by SIGUSR1, which mpirun forwards.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from dbp.heartbeat import slots
from dbp.process_stat import catches, children, is_pending

END_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
FORCE_SIGNAL: Final = signal.SIGUSR2  # ends all processes of the attempt now
DRAIN_SECONDS: Final = 60.0  # systemd's default is 90 s until it sends SIGKILL
READY_SECONDS: Final = 10.0  # for ranks that do not report: of other hosts, or other programs


def block_end_signals() -> None:
    """Block END_SIGNALS; processes that this one starts inherit that."""
    if os.uname().sysname == "Linux":  # elsewhere the supervisor could not see them
        signal.pthread_sigmask(signal.SIG_BLOCK, END_SIGNALS)


@final
class StopRequest:
    """Whether the ranks of one attempt are to stop, and whether they have been asked."""

    def __init__(
        self,
        command: int,
        heartbeats: Path,
        ranks: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask nothing yet.

        Args:
            command: pid of mpirun, or of the only rank; not to be reaped before ``poll`` ends.
            heartbeats: The file of heartbeats.
            ranks: Number of ranks.
            clock: Monotonic seconds.
        """
        self.drained = False  # the supervisor got a signal that asks for its end
        self.preempted = False  # mpirun got one
        self._command = command
        self._heartbeats = heartbeats
        self._ranks = ranks
        self._clock = clock
        self._asked_at: float | None = None
        self._deadline: float | None = None
        self._forwarded = False

    def ask(self) -> None:
        """Ask the ranks to stop, as soon as all can."""
        if self._asked_at is None:
            self._asked_at = self._clock()

    def drain(self) -> None:
        """Ask the ranks to stop before a deadline, since the service's processes are ended."""
        self.drained = True
        self._ask_before_deadline()

    def poll(self) -> bool:
        """Forward a request that waits; return whether a deadline has passed."""
        if self._ranks > 1 and not self.preempted and self._launcher_is_asked():
            self.preempted = True
            self._ask_before_deadline()
        if self._asked_at is not None and not self._forwarded and self._is_ready():
            self._forwarded = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._command, signal.SIGUSR1)
        return self._deadline is not None and self._clock() >= self._deadline

    def _ask_before_deadline(self) -> None:
        self.ask()
        if self._deadline is None:
            self._deadline = self._clock() + DRAIN_SECONDS

    def _launcher_is_asked(self) -> bool:
        """Return whether mpirun, or a process between it and its ranks, has got a signal."""
        ranks = self._rank_pids()
        below = [pid for pid in children(self._command) if pid not in ranks]
        return any(is_pending(pid, n) for pid in (self._command, *below) for n in END_SIGNALS)

    def _is_ready(self) -> bool:
        """Return whether all ranks have a handler for SIGUSR1, which else would kill them."""
        pids = self._rank_pids()
        reported = [pid for pid in pids if pid]
        late = self._clock() - (self._asked_at or 0.0) >= READY_SECONDS
        if len(reported) < self._ranks and not late:
            return self._ranks == 1 and catches(self._command, signal.SIGUSR1)
        return all(catches(pid, signal.SIGUSR1) for pid in reported)

    def _rank_pids(self) -> list[int]:
        return [beat.pid for beat in slots.read(self._heartbeats)[slots.FIRST_RANK :]]
