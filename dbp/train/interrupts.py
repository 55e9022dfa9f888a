"""Stop a run in the process of another program on signals, then restore its handlers."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self, final

from dbp.train.report.sink import Command, Control
from dbp.train.stop_signals import STOP_SIGNALS


@final
class Interrupts(Control):
    """Turns signals inside a ``with`` block into a request to stop after the step.

    Ctrl-C (SIGINT) always does so, unless it is ignored; SIGTERM, SIGUSR1 and SIGHUP where the
    program has no handler of its own. A Ctrl-C before the first poll, and a second one, raise
    KeyboardInterrupt at once. In a thread other than the main thread Python allows no handlers:
    signals then act as without the block.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._polled = False
        self._earlier: dict[signal.Signals, Any] = {}  # a handler: whatever signal() took

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in STOP_SIGNALS:
            handler = signal.getsignal(number)
            is_free = handler is signal.SIG_DFL or (
                number == signal.SIGINT and callable(handler)
            )
            if is_free:
                self._earlier[number] = handler
                signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        self._earlier.clear()

    def poll(self) -> Command:
        """Return STOP after a signal."""
        self._polled = True
        return Command.NONE if self.received is None else Command.STOP

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None
        self.received = signal.Signals(number)
        if number == signal.SIGINT and (again or not self._polled):
            raise KeyboardInterrupt
