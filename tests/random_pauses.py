"""Random pauses between tries, as long as their limits."""

from __future__ import annotations

import pytest


def as_long_as_allowed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make each pause of a ``Backoff`` as long as its limit; return the pauses."""
    drawn: list[float] = []

    def longest(low: float, high: float) -> float:
        assert low == 0.0
        drawn.append(high)
        return high

    monkeypatch.setattr("dbp.rpc.backoff.uniform", longest)
    return drawn
