from __future__ import annotations

from dbp.job.spec.job_spec import PublishSpec
from dbp.train.report.timing import PublishSchedule


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def due_steps(spec: PublishSpec, steps: int, seconds_a_step: float) -> list[int]:
    clock = Clock()
    schedule = PublishSchedule(spec, clock)
    due = []
    for step in range(1, steps + 1):
        clock.now += seconds_a_step
        if schedule.due(step):
            schedule.published()
            due.append(step)
    return due


def test_parameters_are_due_every_n_steps() -> None:
    assert due_steps(PublishSpec(every_steps=4), 13, 1.0) == [4, 8, 12]


def test_by_time_the_first_step_is_due_then_one_step_each_interval() -> None:
    assert due_steps(PublishSpec(every_seconds=2.0), 10, 0.5) == [1, 5, 9]


def test_parameters_are_due_by_steps_and_by_time() -> None:
    assert due_steps(PublishSpec(every_steps=3, every_seconds=2.0), 8, 1.0) == [1, 3, 5, 6, 8]
