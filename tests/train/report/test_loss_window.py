"""The losses of the steps between two reports."""

from __future__ import annotations

import math

import numpy as np

from dbp.job.step_window import StepWindow
from dbp.train.report.loss_window import LossWindow
from dbp.train.step_facts import StepResult


def result(loss: float, *, weight: float = 2.0, failure: str = "") -> StepResult:
    return StepResult(loss * weight, weight, np.empty(0), failure=failure)


def test_mean_and_extremes_of_the_steps_since_the_last_report() -> None:
    window = LossWindow()
    for step, loss in enumerate((4.0, 1.0, 4.0), start=7):
        window.add(step, result(loss))

    assert window.take(2) == StepWindow(7, 3, 3.0, 1.0, 4.0, 2)
    assert window.take(2) is None
    window.add(10, result(5.0))
    assert window.take(2) == StepWindow(10, 1, 5.0, 5.0, 5.0, 2)


def test_steps_that_were_skipped_are_in_the_window_but_in_no_figure() -> None:
    window = LossWindow()
    window.add(1, result(math.inf))
    window.add(2, result(1.0, failure="overflow"))
    window.add(3, result(1.0, weight=0.0))

    found = window.take(0)

    assert found is not None
    assert (found.first_step, found.counted) == (1, 0)
    assert math.isnan(found.loss_mean)
    assert found.joined(StepWindow(4, 1, 2.0, 2.0, 2.0)) == StepWindow(1, 1, 2.0, 2.0, 2.0)
    assert StepWindow(0, 1, 2.0, 2.0, 2.0).joined(found) == StepWindow(0, 1, 2.0, 2.0, 2.0)


def test_a_roll_back_keeps_the_steps_up_to_the_checkpoint() -> None:
    window = LossWindow()
    window.add(5, result(1.0))
    window.save(5)
    for _ in range(2):
        window.add(6, result(9.0))
        window.roll_back(5)

    window.add(6, result(3.0))
    assert window.take(2) == StepWindow(5, 2, 2.0, 1.0, 3.0, 2)


def test_a_roll_back_to_a_step_that_was_reported_keeps_none() -> None:
    window = LossWindow()
    window.add(5, result(9.0))
    window.save(5)
    window.take(0)
    window.add(6, result(9.0))

    window.roll_back(5)

    window.add(6, result(1.0))
    assert window.take(1) == StepWindow(6, 1, 1.0, 1.0, 1.0, 1)


def test_a_roll_back_to_another_checkpoint_clears_the_window() -> None:
    window = LossWindow()
    window.add(5, result(9.0))
    window.save(5)

    window.roll_back(3)

    window.add(4, result(1.0))
    assert window.take(1) == StepWindow(4, 1, 1.0, 1.0, 1.0, 1)
