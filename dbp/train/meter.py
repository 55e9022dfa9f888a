"""How fast a run goes and how long it will take; decides when to tell. It tells nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

REPORT_SECONDS: Final = 0.1
SMOOTHING_SECONDS: Final = 2.0


@final
class Meter:
    """Counts samples against a monotonic clock, on rank 0."""

    def __init__(self, total_steps: int, clock: Callable[[], float], *, done: int = 0) -> None:
        """``done``: steps that an earlier process has taken."""
        self._total_steps = total_steps
        self._done = done
        self._clock = clock
        self._start = self._last = self._told = clock()
        self._samples = 0
        self.samples_per_second = 0.0

    @property
    def seconds(self) -> float:
        """Time since the run began."""
        return self._clock() - self._start

    def restart(self) -> None:
        """Leave the time since the last step out of the rate (an evaluation, a snapshot)."""
        self._last = self._clock()

    def count(self, samples: int) -> bool:
        """Note a step of so many samples; True when it is time for a report."""
        self._samples += samples
        now = self._clock()
        if now - self._told < REPORT_SECONDS:
            return False
        self.settle(now)
        return True

    def settle(self, now: float | None = None) -> None:
        """Bring the rate up to date: a mean that forgets over about two seconds."""
        now = self._clock() if now is None else now
        elapsed = now - self._last
        if self._samples and elapsed > 0:
            rate = self._samples / elapsed
            share = min(1.0, elapsed / SMOOTHING_SECONDS) if self.samples_per_second else 1.0
            self.samples_per_second += share * (rate - self.samples_per_second)
        self._samples = 0
        self._last = self._told = now

    def undo(self, steps: int) -> None:
        """So many steps will be taken again: they took time, but no longer count as done."""
        self._done -= steps

    def eta_seconds(self, step: int) -> float | None:
        """Seconds to the planned end at the run's own pace, evaluations included."""
        if step <= self._done:
            return None
        return self.seconds / (step - self._done) * (self._total_steps - step)
