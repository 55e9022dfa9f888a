"""Check that the length of a run fits its schedule and the metrics that it follows."""

from __future__ import annotations

from collections.abc import Iterator

from dbp.errors import InvalidSpec, Violation
from dbp.optim.schedule import LengthProblem
from dbp.quantities import count_text
from dbp.train.plan import make_plan
from dbp.train.run_spec import RunSpec

PATH = "optimizer.learning_rate"


def check_schedule(resolved: RunSpec, samples: int) -> None:
    """Raise InvalidSpec where the schedule is useless for the length of the run."""
    problems = _problems(resolved, samples)
    if refused := [_violation(problem) for problem in problems if problem.refused]:
        raise InvalidSpec(refused)


def schedule_notes(resolved: RunSpec, samples: int) -> Iterator[Violation]:
    """Yield notes on options of the schedule that the run is too short or too long for."""
    for problem in _problems(resolved, samples):
        if not problem.refused:
            yield _violation(problem)


def _problems(resolved: RunSpec, samples: int) -> list[LengthProblem]:
    plan = make_plan(resolved.spec.train, samples)
    schedule = resolved.optimizer.learning_rate
    return list(schedule.length_problems(plan.total_steps, plan.total_epochs))


def _violation(problem: LengthProblem) -> Violation:
    return Violation(f"{PATH}.{problem.option}", problem.message)


def metric_notes(resolved: RunSpec, samples: int) -> Iterator[Violation]:
    """Yield notes on ``model.metrics``, and on metrics for stopping or the learning rate."""
    spec = resolved.spec
    if spec.data.validation is None and spec.data.test is None:
        for index, (kind, metric) in enumerate(resolved.metrics):
            if not metric.is_summed():
                message = (
                    f"{kind} needs all samples at once, so training does not measure it, and "
                    "there is neither data.validation nor data.test; `dbp evaluate` will"
                )
                yield Violation(f"model.metrics[{index}]", message)
    plan, every = make_plan(spec.train, samples), spec.train.evaluate_every_epochs
    stop = spec.train.stop
    followed = {
        "train.stop.metric": stop.metric if stop else None,
        "optimizer.learning_rate": resolved.optimizer.learning_rate.metric(),
    }
    for path, name in followed.items():
        late = every * plan.steps_per_epoch > plan.total_steps
        if name is not None and name.startswith("validation_") and late:
            message = (
                f"{name} is measured at the end only: the run takes "
                f"{count_text(plan.total_steps, 'step')}, evaluate_every_epochs = {every} "
                f"are {every * plan.steps_per_epoch:,}"
            )
            yield Violation(path, message)
