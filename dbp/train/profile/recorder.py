"""Record the spans of one rank: steps, their phases, layers, and calls that wait for others."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, final

from dbp.heartbeat.phase import Heartbeat, Phase

# About 25 MB of memory, and as much in the trace: enough for thousands of steps, and as much as
# a browser shows without delay.
MAX_SPANS: Final = 200_000

STEP: Final = "step"
PHASE: Final = "phase"
LAYER: Final = "layer"
CALL: Final = "call"  # a collective call

DIGEST: Final = "digest"
BETWEEN: Final = "between steps"
COMPUTE: Final = "compute"

PHASES: Final = {
    Phase.READING: "input",
    Phase.COMPUTING: COMPUTE,
    Phase.EXCHANGE: "exchange",
    Phase.UPDATE: "update",
    Phase.EVALUATING: "evaluate",
    Phase.CHECKPOINT: "checkpoint",
    Phase.PUBLISHING: "publish",
    Phase.ENDING: "end",
    Phase.STARTING: "start",
    Phase.SERVING: "serve",
}

Span = tuple[str, str, float, float]
"""Name, category, start and end; seconds of ``time.perf_counter``."""


@final
class Recorder(Heartbeat):
    """A heartbeat that records phases, and passes them on to another heartbeat.

    It is the trace of the run's communicator, too. It records from the first step until
    ``limit`` spans, and then to the end of the step.
    """

    def __init__(
        self,
        inner: Heartbeat,
        *,
        limit: int = MAX_SPANS,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.clock = clock
        self.spans: list[Span] = []
        self.first_step = 0
        self.last_step = 0  # the newest that is recorded in full
        self.is_recording = False
        self._inner = inner
        self._limit = limit
        self._step = 0  # under way
        self._step_start = self._phase_start = 0.0
        self._phase = ""
        self._updates = 0

    def begin_step(self, step: int) -> None:
        self._inner.begin_step(step)
        now = self.clock()
        if self.is_recording:
            self._close_step(now)
            if len(self.spans) >= self._limit:
                self.is_recording = False
                return
        elif self.first_step:
            return
        else:
            self.first_step, self.is_recording = step, True
        self._step, self._step_start = step, now
        self._phase, self._phase_start = DIGEST, now
        self._updates = 0

    def enter(self, phase: Phase) -> None:
        self._inner.enter(phase)
        if not self.is_recording:
            return
        name = PHASES[phase]
        if phase is Phase.UPDATE:
            self._updates += 1
            name = name if self._updates == 1 else BETWEEN
        now = self.clock()
        self.spans.append((self._phase, PHASE, self._phase_start, now))
        self._phase, self._phase_start = name, now

    def count_collective(self) -> None:
        self._inner.count_collective()

    def called(self, name: str, start: float) -> None:
        """Record a collective call, which ends now."""
        if self.is_recording:
            self.spans.append((name, CALL, start, self.clock()))

    def add_layer(self, name: str, start: float) -> None:
        """Record a pass through a layer, which ends now."""
        if self.is_recording:
            self.spans.append((name, LAYER, start, self.clock()))

    def close(self) -> None:
        """End the step under way, and the recording."""
        if self.is_recording:
            self._close_step(self.clock())
            self.is_recording = False

    def _close_step(self, now: float) -> None:
        self.spans.append((self._phase, PHASE, self._phase_start, now))
        self.spans.append((f"step {self._step}", STEP, self._step_start, now))
        self.last_step = self._step
