"""The phases of one rank by time."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import final

from dbp.train.profile.recorder import PHASE, Span


@final
class Phases:
    """Finds the phase of a rank at a time; phases follow one another without gaps."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = [span for span in spans if span[1] == PHASE]
        self._starts = [start for _, _, start, _ in self._spans]

    def at(self, time: float) -> str:
        """Return the phase at this time; "" before the first one."""
        place = bisect.bisect_right(self._starts, time) - 1
        return self._spans[place][0] if place >= 0 else ""

    def longest(self, start: float, end: float) -> str:
        """Return the phase that takes most of the time from ``start`` to ``end``."""
        place = max(0, bisect.bisect_right(self._starts, start) - 1)
        times: dict[str, float] = {}
        for name, _, begun, ended in self._spans[place:]:
            if begun >= end:
                break
            shared = min(end, ended) - max(start, begun)
            times[name] = times.get(name, 0.0) + shared
        return max(times, key=lambda name: times[name], default="")
