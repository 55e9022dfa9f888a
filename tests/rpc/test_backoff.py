"""Pauses between tries are drawn at random up to a limit that doubles."""

from __future__ import annotations

import pytest

from dbp.rpc.backoff import Backoff
from tests.random_pauses import as_long_as_allowed


def test_the_limits_double_up_to_the_highest(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = as_long_as_allowed(monkeypatch)
    backoff = Backoff(0.1, 0.5)

    pauses = [backoff.next() for _ in range(5)]

    assert pauses == drawn == [0.1, 0.2, 0.4, 0.5, 0.5]


def test_the_limits_start_over_and_rise_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    as_long_as_allowed(monkeypatch)
    backoff = Backoff(0.1, 5.0)

    assert backoff.next() == 0.1
    backoff.rise()
    assert backoff.next() == 5.0
    backoff.restart()
    assert backoff.next() == 0.1


def test_pauses_of_two_callers_differ_and_reach_from_zero_to_the_limit() -> None:
    first, second = (Backoff(1.0, 1.0) for _ in range(2))
    ours, theirs = ([backoff.next() for _ in range(200)] for backoff in (first, second))

    assert ours != theirs
    for pauses in (ours, theirs):
        assert 0.0 <= min(pauses) < 0.2
        assert 0.8 < max(pauses) <= 1.0
