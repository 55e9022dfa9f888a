"""The phases of a run, and the interface by which the training loop reports them."""

from __future__ import annotations

import enum
from typing import Final, Protocol, final


class Phase(enum.IntEnum):
    """Phases of a rank, and SERVING of the supervisor."""

    STARTING = 0
    READING = 1
    COMPUTING = 2
    EXCHANGE = 3
    UPDATE = 4
    EVALUATING = 5
    CHECKPOINT = 6
    PUBLISHING = 7
    ENDING = 8
    SERVING = 9  # the loop of a supervisor

    @property
    def text(self) -> str:
        """Return the phase as messages name it."""
        return _TEXTS[self]


_TEXTS: Final = {
    Phase.STARTING: "starting",
    Phase.READING: "reading data",
    Phase.COMPUTING: "forward/backward",
    Phase.EXCHANGE: "exchange",
    Phase.UPDATE: "update",
    Phase.EVALUATING: "evaluating",
    Phase.CHECKPOINT: "checkpoint",
    Phase.PUBLISHING: "publishing",
    Phase.ENDING: "idle at the end",
    Phase.SERVING: "serving",
}


class Heartbeat(Protocol):
    """Receives the phases of a rank; a call takes less than a microsecond."""

    def begin_step(self, step: int) -> None:
        """Note the start of a training step, to which later phases belong, too."""

    def enter(self, phase: Phase) -> None:
        """Note a phase, or progress in the present one."""

    def count_collective(self) -> None:
        """Note a call that waits for other ranks: all wait for the rank with the fewest."""


@final
class NoHeartbeat(Heartbeat):
    """The heartbeat of a run without a service: it does nothing."""

    def begin_step(self, step: int) -> None:
        pass

    def enter(self, phase: Phase) -> None:
        pass

    def count_collective(self) -> None:
        pass


NO_HEARTBEAT: Final = NoHeartbeat()
