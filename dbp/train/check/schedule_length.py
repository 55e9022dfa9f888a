"""Check that the learning-rate schedule fits the length of the run."""

from __future__ import annotations

from collections.abc import Iterator

from dbp.errors import InvalidSpec, Violation
from dbp.job.resolve import ResolvedSpec
from dbp.optim.schedule import LengthProblem
from dbp.train.plan import make_plan

PATH = "optimizer.learning_rate"


def check_schedule(resolved: ResolvedSpec, samples: int) -> None:
    """Raise InvalidSpec where the schedule is useless for the length of the run."""
    problems = _problems(resolved, samples)
    if refused := [_violation(problem) for problem in problems if problem.refused]:
        raise InvalidSpec(refused)


def schedule_notes(resolved: ResolvedSpec, samples: int) -> Iterator[Violation]:
    """Yield notes on options of the schedule that the run is too short or too long for."""
    for problem in _problems(resolved, samples):
        if not problem.refused:
            yield _violation(problem)


def _problems(resolved: ResolvedSpec, samples: int) -> list[LengthProblem]:
    plan = make_plan(resolved.spec.train, samples)
    schedule = resolved.optimizer.learning_rate
    return list(schedule.length_problems(plan.total_steps, plan.total_epochs))


def _violation(problem: LengthProblem) -> Violation:
    return Violation(f"{PATH}.{problem.option}", problem.message)
