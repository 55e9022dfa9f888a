"""Measure speed and the remaining time; decide when to report and when to publish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from dbp.job.spec.job_spec import PublishSpec

REPORT_SECONDS: Final = 0.1
SMOOTHING_SECONDS: Final = 2.0


@final
class Meter:
    """Counts samples and time with a monotonic clock, on rank 0."""

    def __init__(self, total_steps: int, clock: Callable[[], float], *, done: int = 0) -> None:
        """``done`` is the number of steps that an earlier process has taken."""
        self._total_steps = total_steps
        self._done = done
        self._clock = clock
        self._start = self._last = self._reported = clock()
        self._samples = 0
        self.samples_per_second = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the start of this process's part of the run."""
        return self._clock() - self._start

    def restart(self) -> None:
        """Exclude the time since the last step from the rate (evaluation, publishing)."""
        self._last = self._clock()

    def count(self, samples: int) -> bool:
        """Count a step of ``samples`` samples; return whether a report is due."""
        self._samples += samples
        now = self._clock()
        if now - self._reported < REPORT_SECONDS:
            return False
        self.update_rate(now)
        return True

    def update_rate(self, now: float | None = None) -> None:
        """Update the rate, an exponential mean over about two seconds."""
        now = self._clock() if now is None else now
        elapsed = now - self._last
        if self._samples and elapsed > 0:
            rate = self._samples / elapsed
            share = min(1.0, elapsed / SMOOTHING_SECONDS) if self.samples_per_second else 1.0
            self.samples_per_second += share * (rate - self.samples_per_second)
        self._samples = 0
        self._last = self._reported = now

    def undo(self, steps: int) -> None:
        """Uncount steps that a roll-back undoes; the time that they took still counts."""
        self._done -= steps

    def eta_seconds(self, step: int) -> float | None:
        """Return the seconds to the planned end at the mean speed, including evaluations."""
        if step <= self._done:
            return None
        return self.seconds / (step - self._done) * (self._total_steps - step)


# Early epochs can be short, and each the best so far: at most one such version a second.
BEST_SECONDS: Final = 1.0


@final
class PublishSchedule:
    """The schedule of a run: every n steps, every s seconds, or both."""

    def __init__(self, spec: PublishSpec, clock: Callable[[], float]) -> None:
        self._steps = spec.every_steps
        self._seconds = spec.every_seconds
        self._clock = clock
        self._last: float | None = None

    def due(self, step: int) -> bool:
        """Return whether the parameters after this step are due.

        With ``every_seconds`` the first step is due, so that clients soon get a version.
        """
        by_steps = self._steps is not None and step % self._steps == 0
        return by_steps or (self._seconds is not None and self._silent_for(self._seconds))

    def best_due(self) -> bool:
        """Return whether pending best parameters may be published now."""
        return self._silent_for(BEST_SECONDS)

    def published(self) -> None:
        """Start to measure the time to the next version."""
        self._last = self._clock()

    def _silent_for(self, seconds: float) -> bool:
        return self._last is None or self._clock() - self._last >= seconds
