"""Schedules are the functions of the step that they say they are."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from dbp.optim.cycle_schedules import CosineRestarts, OneCycle
from dbp.optim.decay_schedules import (
    ExponentialDecay,
    InverseSquareRoot,
    MultiStepDecay,
    PolynomialDecay,
    StepDecay,
)
from dbp.optim.schedule import Constant, Cosine, Schedule
from dbp.optim.warmup import Plateau, Warmup
from tests.closeness import assert_close


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
    assert schedule.value(10, 10) == pytest.approx(0.2, rel=1e-14)


def test_without_warm_up_it_falls_from_the_first_step() -> None:
    rates = [Cosine(peak=1.0).value(step, 5) for step in range(1, 6)]

    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx((1 + math.cos(math.pi / 5)) / 2)
    assert_close(rates[-1], 0.0, 1e-15, scale=1.0)


def test_after_the_planned_end_the_rate_stays_at_the_floor() -> None:
    schedule = Cosine(peak=1.0, floor=0.1, warmup_steps=2)

    assert schedule.value(50, 10) == pytest.approx(0.1)


@pytest.mark.parametrize("total", [1, 3, 4])
def test_a_run_no_longer_than_the_warm_up_only_rises(total: int) -> None:
    schedule = Cosine(peak=1.0, floor=0.1, warmup_steps=4)

    rates = [schedule.value(step, total) for step in range(1, total + 1)]

    assert rates == pytest.approx([step / 4 for step in range(1, total + 1)])


TOTAL = 60

# Ours, and PyTorch's over an optimizer whose own rate is 0.4.
TORCH: list[tuple[Schedule, Any]] = [
    (StepDecay(rate=0.4, every=7, factor=0.5), lambda o: lr_scheduler.StepLR(o, 7, 0.5)),
    (
        MultiStepDecay(rate=0.4, milestones=(3, 20, 41), factor=0.3),
        lambda o: lr_scheduler.MultiStepLR(o, [3, 20, 41], 0.3),
    ),
    (ExponentialDecay(rate=0.4, factor=0.9), lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
    (
        PolynomialDecay(rate=0.4, power=2.5, steps=40),
        lambda o: lr_scheduler.PolynomialLR(o, 40, 2.5),
    ),
    (PolynomialDecay(rate=0.4), lambda o: lr_scheduler.PolynomialLR(o, TOTAL, 1.0)),
    (
        CosineRestarts(peak=0.4, floor=0.01, period=9),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 9, 1, 0.01),
    ),
    (
        CosineRestarts(peak=0.4, floor=0.01, period=5, growth=2),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5, 2, 0.01),
    ),
    (
        OneCycle(peak=0.4, rise=0.25),
        lambda o: lr_scheduler.OneCycleLR(o, 0.4, TOTAL, pct_start=0.25, cycle_momentum=False),
    ),
]


@pytest.mark.parametrize(("schedule", "make"), TORCH)
def test_a_schedule_equals_torchs(schedule: Schedule, make: Any) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = make(optimizer)
    expected = []
    for _ in range(TOTAL):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < TOTAL:
            scheduler.step()

    rates = [schedule.value(step, TOTAL) for step in range(1, TOTAL + 1)]

    assert_close(rates, expected, 1e-11)


def test_the_inverse_square_root_rises_and_falls() -> None:
    schedule = InverseSquareRoot(peak=0.8, warmup_steps=4)

    assert [schedule.value(s, 9) for s in (1, 4, 16)] == pytest.approx([0.2, 0.8, 0.4])


def test_warm_up_leads_to_the_first_rate_of_any_schedule() -> None:
    schedule = Warmup(steps=4, start=0.5, then=StepDecay(rate=0.8, every=2, factor=0.5))

    rates = [schedule.value(step, 10) for step in range(1, 9)]

    assert rates == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.8, 0.8, 0.4, 0.4])


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_a_plateau_equals_torchs(better: Any) -> None:
    values = [5.0, 4.0, 4.0, 3.99, 4.1, 3.0, 3.1, 3.2, 3.3, 3.4, 3.5, 2.0, 2.1, 2.2, 2.3]
    sign = 1.0 if better == "lower" else -1.0
    values = [sign * value for value in values]
    schedule = Plateau(
        rate=0.4, better=better, factor=0.5, patience=2, tolerance=0.05, minimum=0.06
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = lr_scheduler.ReduceLROnPlateau(
        optimizer, "min" if better == "lower" else "max", 0.5, 2, 0.05, "abs", 0, 0.06
    )

    for count, value in enumerate(values, 1):
        scheduler.step(value)
        rate = schedule.value(count, 99) * schedule.scale(values[:count])
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
    assert rate < 0.4


def test_warm_up_uses_the_metric_of_its_schedule() -> None:
    plateau = Plateau(watched="validation_accuracy", better="higher", patience=0)
    schedule = Warmup(steps=3, then=plateau)

    assert schedule.metric() == "validation_accuracy"
    assert schedule.scale([0.5, 0.4]) == plateau.scale([0.5, 0.4]) == 0.1


def test_plateau_counts_epochs_not_evaluations() -> None:
    schedule = Plateau(patience=3, tolerance=0.0)
    history, epochs = [1.0, 1.0, 1.0, 1.0], [2, 4, 6, 8]

    factors = [schedule.scale(history[:n], epochs[:n]) for n in range(5)]

    # After epoch 4 two epochs brought no improvement, after epoch 6 four.
    assert factors == [1.0, 1.0, 1.0, 0.1, 0.1]
    assert Warmup(steps=3, then=schedule).scale(history, epochs) == 0.1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_plateau_ignores_values_that_are_not_numbers(value: float) -> None:
    schedule = Plateau(patience=1, tolerance=0.0)

    assert schedule.scale([value] * 20) == 1.0
    assert schedule.scale([1.0, value, value, value, 1.0]) == 1.0
    assert schedule.scale([1.0, value, 1.0, value, 1.0]) == 0.1


@pytest.mark.parametrize("milestones", [(), (0,), (3, 3), (5, 2)])
def test_milestones_must_rise(milestones: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="milestones: must be integers >= 1, ascending"):
        MultiStepDecay(milestones=milestones)


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(rate=0.1),
        Cosine(peak=0.1),
        CosineRestarts(peak=0.1, period=7),
        OneCycle(peak=0.1),
        StepDecay(every=3),
        MultiStepDecay(milestones=(4,)),
        ExponentialDecay(),
        PolynomialDecay(),
        PolynomialDecay(steps=50),
        InverseSquareRoot(peak=0.1),
        Plateau(),
        Warmup(steps=5),
        Warmup(steps=5, then=Cosine(peak=0.1)),
        Warmup(steps=5, then=PolynomialDecay(steps=9)),
    ],
    ids=repr,
)
def test_a_schedule_says_whether_it_depends_on_the_length_of_the_run(
    schedule: Schedule,
) -> None:
    steps = range(1, 21)
    rates = [[schedule.value(step, total) for step in steps] for total in (20, 60)]

    assert schedule.uses_total_steps() == (rates[0] != rates[1])
