"""Wait for space on a full disk at the end of a launched run, instead of losing its results."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeVar, final

from dbp.errors import DbpError
from dbp.heartbeat.phase import NO_HEARTBEAT, Heartbeat, Phase
from dbp.storage.full_disk import is_full
from dbp.train.report.sink import Command, Control

RETRY_SECONDS: Final = 0.5
REPEAT_SECONDS: Final = 5.0  # a restarted service does not know that the run waits

T = TypeVar("T")

logger = logging.getLogger("dbp")


class WriteFiles(Protocol):
    """Writer of the files that a run cannot do without."""

    def __call__(self, write: Callable[[], T]) -> T:
        """Return ``write()``, or raise its OSError."""
        ...


def at_once(write: Callable[[], T]) -> T:
    """Return ``write()``: a full disk is an error, which the user sees at once."""
    return write()


@final
class KeptCommands(Control):
    """A control whose commands can be read between two steps without being lost."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._kept = Command.NONE

    def peek(self) -> Command:
        """Return the commands requested now; ``poll`` returns them again."""
        self._kept |= self._control.poll()
        return self._kept

    def poll(self) -> Command:
        commands, self._kept = self.peek(), Command.NONE
        return commands


@final
class SpaceWait:
    """Repeats a write while the disk is full, until the run is asked to stop."""

    def __init__(
        self,
        control: KeptCommands,
        note: Callable[[str], None],
        heartbeat: Heartbeat = NO_HEARTBEAT,
    ) -> None:
        """Store the collaborators.

        Args:
            control: Polled for a request to stop, which ends the wait; the others it keeps.
            note: Called with a sentence while the run waits, and with "" at the end.
            heartbeat: Gets each try: a run that waits has not stalled.
        """
        self._control = control
        self._note = note
        self._heartbeat = heartbeat

    def __call__(self, write: Callable[[], T]) -> T:
        """Return ``write()``; raise its error if it is not a full disk, or after a stop.

        ``write`` may raise an error of dbp from the OSError.
        """
        waiting, noted = False, 0.0
        try:
            while True:
                self._heartbeat.enter(Phase.PUBLISHING)
                try:
                    return write()
                except (OSError, DbpError) as error:
                    cause = error if isinstance(error, OSError) else error.__cause__
                    if not isinstance(cause, OSError) or not is_full(cause):
                        raise
                    if Command.STOP in self._control.peek():
                        raise
                    text = _text(cause)
                    if not waiting:
                        logger.warning("%s", text)
                    if not waiting or time.monotonic() - noted >= REPEAT_SECONDS:
                        self._note(text)
                        noted = time.monotonic()
                    waiting = True
                time.sleep(RETRY_SECONDS)
        finally:
            if waiting:
                self._note("")


def _text(error: OSError) -> str:
    name = error.filename or "a file of the run"
    return f"{name} cannot be written: {error.strerror}; the run waits for space"
