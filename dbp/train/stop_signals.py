"""Stop a run on signals: the first requests a stop, a second Ctrl-C exits immediately."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Final, final

from dbp.exit_codes import INTERRUPTED
from dbp.train.report.sink import Command, Control

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


@final
class StopSignals(Control):
    """Turns SIGTERM, SIGINT, SIGUSR1 and SIGHUP into a request to stop at the next step.

    Before the first poll, a Ctrl-C exits with code 130, since there is nothing to save yet.
    SIGHUP stays ignored if it was ignored before (nohup).
    """

    def __init__(self, *, early_warning: bool = False) -> None:
        """Install the handlers; call it in the main thread only.

        With ``early_warning`` SIGCONT requests a checkpoint. On Ctrl-C Open MPI's mpirun sends
        SIGCONT, 0.25 s later SIGTERM, and SIGKILL after another 0.25 s.
        """
        self.received: signal.Signals | None = None
        self._polled = False
        self._warned = False
        if early_warning:
            signal.signal(signal.SIGCONT, self._note_warning)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # a supervisor blocks them
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)

    def poll(self) -> Command:
        """Return STOP after a signal, and CHECKPOINT once after each SIGCONT."""
        self._polled = True
        warned, self._warned = self._warned, False
        stop = Command.NONE if self.received is None else Command.STOP
        return stop | (Command.CHECKPOINT if warned else Command.NONE)

    def ignore(self) -> None:
        """Ignore further signals, since the run has ended.

        Python restores the default actions when it exits: a signal at that moment would kill
        the process and replace its exit code.
        """
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _note_warning(self, number: int, frame: FrameType | None) -> None:
        self._warned = True

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None
        self.received = signal.Signals(number)
        if number != signal.SIGINT:
            return
        if again:
            os._exit(INTERRUPTED)  # second Ctrl-C: exit without any clean-up
        if not self._polled:
            raise SystemExit(INTERRUPTED)
