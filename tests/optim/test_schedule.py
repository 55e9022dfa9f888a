"""Schedules are the functions of the step that they say they are."""

from __future__ import annotations

import math

import pytest

from dbp.optim.schedule import Constant, Cosine


def test_a_constant_is_constant() -> None:
    assert {Constant(rate=0.3).value(step, 10) for step in range(1, 20)} == {0.3}


def test_warm_up_rises_linearly_to_the_peak() -> None:
    schedule = Cosine(peak=0.8, warmup_steps=4)

    rates = [schedule.value(step, 100) for step in (1, 2, 3, 4)]

    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_the_cosine_falls_from_the_peak_to_the_floor_at_the_last_step() -> None:
    schedule = Cosine(peak=1.0, floor=0.2, warmup_steps=2)

    # 8 steps after the warm-up: a quarter, half, three quarters and all of half a turn.
    assert schedule.value(2, 10) == 1.0
    assert schedule.value(4, 10) == pytest.approx(0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2)
    assert schedule.value(6, 10) == pytest.approx(0.6)
    assert schedule.value(8, 10) == pytest.approx(0.2 + 0.8 * (1 - math.sqrt(0.5)) / 2)
    assert schedule.value(10, 10) == pytest.approx(0.2, abs=1e-15)


def test_without_warm_up_it_falls_from_the_first_step() -> None:
    rates = [Cosine(peak=1.0).value(step, 5) for step in range(1, 6)]

    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx((1 + math.cos(math.pi / 5)) / 2)
    assert rates[-1] == pytest.approx(0.0, abs=1e-15)


def test_after_the_planned_end_the_rate_stays_at_the_floor() -> None:
    schedule = Cosine(peak=1.0, floor=0.1, warmup_steps=2)

    assert schedule.value(50, 10) == pytest.approx(0.1)


@pytest.mark.parametrize("total", [1, 3, 4])
def test_a_run_no_longer_than_the_warm_up_only_rises(total: int) -> None:
    schedule = Cosine(peak=1.0, floor=0.1, warmup_steps=4)

    rates = [schedule.value(step, total) for step in range(1, total + 1)]

    assert rates == pytest.approx([step / 4 for step in range(1, total + 1)])
