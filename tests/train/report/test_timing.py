from __future__ import annotations

import pytest

from dbp.train.report.timing import Meter


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_reports_are_due_about_ten_times_a_second() -> None:
    clock = Clock()
    meter = Meter(10_000, clock)

    due = 0
    for _ in range(1000):
        clock.now += 0.01
        due += meter.count(1)

    assert 80 <= due <= 100


def test_the_rate_is_that_of_the_steps_without_evaluations() -> None:
    clock = Clock()
    meter = Meter(100, clock)
    for _ in range(30):
        clock.now += 0.5
        meter.count(200)
        meter.update_rate()
        clock.now += 7.0  # an evaluation
        meter.restart()

    assert meter.samples_per_second == pytest.approx(400.0)


def test_the_time_left_counts_evaluations_too() -> None:
    clock = Clock()
    meter = Meter(100, clock)
    assert meter.eta_seconds(0) is None

    clock.now += 50.0

    assert meter.eta_seconds(25) == pytest.approx(150.0)
    assert meter.eta_seconds(100) == 0.0
    assert meter.seconds == 50.0


def test_the_time_left_counts_steps_that_are_repeated() -> None:
    clock = Clock()
    meter = Meter(100, clock)

    clock.now += 50.0  # 25 steps, then back to step 5
    meter.undo(20)

    assert meter.eta_seconds(5) == pytest.approx(2.0 * 95)
