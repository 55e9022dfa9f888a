from __future__ import annotations

import pytest

from dbp.job.spec.job_spec import TrainSpec
from dbp.train.plan import make_plan


@pytest.mark.parametrize(
    ("epochs", "steps", "total"), [(3, None, 12), (None, 7, 7), (3, 7, 7), (1, 99, 4)]
)
def test_the_fewer_of_epochs_and_steps_end_a_run(
    epochs: int | None, steps: int | None, total: int
) -> None:
    plan = make_plan(TrainSpec(batch_size=8, epochs=epochs, steps=steps), 29)

    assert (plan.steps_per_epoch, plan.total_steps) == (4, total)
    assert plan.total_epochs == total / 4


@pytest.mark.parametrize(("samples", "batch"), [(29, 8), (32, 8), (5, 8), (1, 1)])
def test_the_mini_batches_of_an_epoch_hold_each_position_once(samples: int, batch: int) -> None:
    plan = make_plan(TrainSpec(batch_size=batch, epochs=2), samples)
    for epoch in (1, 2):
        steps = [s for s in range(1, plan.total_steps + 1) if plan.epoch_of(s) == epoch]

        bounds = [plan.batch_of(step) for step in steps]

        assert [p for start, stop in bounds for p in range(start, stop)] == [*range(samples)]
        assert [plan.ends_epoch(step) for step in steps] == [False] * (len(steps) - 1) + [True]


@pytest.mark.parametrize(("samples", "batch", "steps"), [(29, 8, 3), (32, 8, 4), (8, 8, 1)])
def test_a_short_last_mini_batch_is_dropped_where_the_spec_says_so(
    samples: int, batch: int, steps: int
) -> None:
    plan = make_plan(TrainSpec(batch_size=batch, epochs=2, last_batch="drop"), samples)

    assert (plan.steps_per_epoch, plan.total_steps, plan.total_epochs) == (steps, 2 * steps, 2)
    bounds = [plan.batch_of(step) for step in range(1, 2 * steps + 1)]
    assert bounds == 2 * [(first * batch, (first + 1) * batch) for first in range(steps)]
    assert [s for s in range(1, 2 * steps + 1) if plan.ends_epoch(s)] == [steps, 2 * steps]


def test_the_last_step_ends_an_unfinished_epoch() -> None:
    plan = make_plan(TrainSpec(batch_size=8, steps=6), 29)

    assert [s for s in range(1, 7) if plan.ends_epoch(s)] == [4, 6]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (None, [20] * 6),
        ((6,), [6] * 6),
        ((6, 2), [6, 6, 20, 20, 20, 20]),
        ((6, 2, 9), [6, 6, 9, 9, 9, 9]),
        ((6, 2, 9, 4), [6, 6, 9, 9, 20, 20]),
        ((6, 2, 9, 2), [6, 6, 20, 20, 20, 20]),
    ],
)
def test_a_schedule_is_planned_for_the_length_that_holds_at_a_step(
    schedule: tuple[int, ...] | None, expected: list[int]
) -> None:
    plan = make_plan(TrainSpec(batch_size=8, steps=20, schedule_steps=schedule), 29)

    assert [plan.schedule_length(step) for step in range(1, 7)] == expected
    cut = plan.cut_at(6)
    assert [cut.schedule_length(step) for step in range(1, 7)] == expected
    assert (cut.total_steps, cut.ends_epoch(6)) == (6, True)
