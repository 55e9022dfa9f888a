"""Ticks are round, in the range, and few."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbp.plot.ticks import linear_ticks, log_ticks, tick_text

NUMBERS = st.floats(-1e12, 1e12, allow_nan=False, allow_infinity=False)


@given(low=NUMBERS, size=st.floats(1e-3, 1e12), most=st.integers(2, 20))
def test_linear_ticks_are_in_the_range_and_at_most_as_many(
    low: float, size: float, most: int
) -> None:
    high = low + size
    ticks = linear_ticks(low, high, most)

    slack = 1e-6 * max(abs(low), abs(high), 1)
    assert 0 < len(ticks) <= most
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert ticks == sorted(ticks)


@given(low=st.floats(1e-300, 1e290), factor=st.floats(1.01, 1e9), most=st.integers(2, 12))
def test_log_ticks_are_in_the_range_and_at_most_as_many(
    low: float, factor: float, most: int
) -> None:
    ticks = log_ticks(low, low * factor, most)

    assert 0 < len(ticks) <= most
    assert all(low * 0.999 <= tick <= low * factor * 1.001 for tick in ticks)


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [(1, 84, 6, [20, 40, 60, 80]), (1, 3, 8, [1, 2, 3]), (1, 2, 2, [1, 2]), (1, 24_600, 6,
     [5_000, 10_000, 15_000, 20_000])],
)  # fmt: skip
def test_ticks_of_epochs_are_whole(
    low: float, high: float, most: int, expected: list[float]
) -> None:
    assert linear_ticks(low, high, most, whole=True) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.03, 1.8, [0.05, 0.1, 0.2, 0.5, 1]), (1e-5, 1e3, [1e-4, 1e-2, 1, 100]),
     (0.5, 3, [0.5, 1, 2])],
)  # fmt: skip
def test_ticks_of_a_logarithmic_scale(low: float, high: float, expected: list[float]) -> None:
    found = log_ticks(low, high, 6)

    assert found == expected or (len(found) <= 6 and low <= found[0] and found[-1] <= high)


def test_texts_of_ticks_are_short() -> None:
    values = [0, 0.05, 0.1 + 0.2, 1_000, 24_600.0, 1e-9, -0.5, 3e9]

    assert [tick_text(value) for value in values] == [
        "0", "0.05", "0.3", "1,000", "24,600", "1e-09", "-0.5", "3e+09",
    ]  # fmt: skip
