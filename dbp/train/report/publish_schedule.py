"""Decide when the parameters of a run are published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from dbp.job.spec import PublishSpec

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
