"""Signals as a control: the first asks the run to stop, a second Ctrl-C ends it at once."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Final, final

from dbp.exit_codes import INTERRUPTED
from dbp.train.sink import Command

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


@final
class StopSignals:
    """Turns SIGTERM, SIGINT, SIGUSR1 and SIGHUP into a request to stop at the next step.

    Before the run polls, a Ctrl-C ends the process with code 130: there is no step to stop
    at and nothing to save. SIGHUP stays ignored where it was ignored before (nohup).
    """

    def __init__(self, *, early_warning: bool = False) -> None:
        """Install the handlers; only in a main thread.

        ``early_warning``: SIGCONT asks for a checkpoint. mpirun of Open MPI sends it when it
        gets Ctrl-C, SIGTERM 0.25 s later, SIGKILL after another 0.25 s.
        """
        self.received: signal.Signals | None = None
        self._polled = False
        self._warned = False
        if early_warning:
            signal.signal(signal.SIGCONT, self._note_warning)
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)

    def poll(self) -> Command:
        """STOP once a signal has come; CHECKPOINT once after a warning."""
        self._polled = True
        warned, self._warned = self._warned, False
        stop = Command.NONE if self.received is None else Command.STOP
        return stop | (Command.CHECKPOINT if warned else Command.NONE)

    def ignore(self) -> None:
        """Ignore further requests: the run has ended.

        Python restores the default actions when it exits. A request at that moment would
        kill the process and replace its exit code.
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
            os._exit(INTERRUPTED)  # the user insists: no cleaning up that could take long
        if not self._polled:
            raise SystemExit(INTERRUPTED)
