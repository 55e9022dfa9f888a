"""Pauses between tries at a service: exponential, with full jitter.

All links and clients of a service lose it at the same moment. With equal pauses they would all
try again at the same moments. Source:
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

from random import uniform
from typing import final


@final
class Backoff:
    """Pauses drawn uniformly from 0 to a limit, which doubles with each pause."""

    def __init__(self, first: float, last: float) -> None:
        """``first``, ``last``: the limit of the first pause, and the highest; seconds."""
        self._first = first
        self._last = last
        self._limit = first

    def next(self) -> float:
        """Return the next pause in seconds."""
        pause = uniform(0.0, self._limit)  # noqa: S311 (spreads tries, guards nothing)
        self._limit = min(2 * self._limit, self._last)
        return pause

    def restart(self) -> None:
        """Draw the next pause up to the first limit again: the service has answered."""
        self._limit = self._first

    def rise(self) -> None:
        """Draw the next pauses up to the highest limit: soon another answer is unlikely."""
        self._limit = self._last
