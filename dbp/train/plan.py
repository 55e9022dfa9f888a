"""The plan of a run: its mini-batches, steps and epochs, and its planned end."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final, final

from dbp.data.sampler import batch_bounds, steps_per_epoch
from dbp.job.spec.job_spec import TrainSpec


@dataclass(frozen=True)
class Plan:
    """The plan of a run over ``samples`` training samples; steps and epochs count from 1."""

    samples: int
    batch_size: int
    total_steps: int
    drop_last: bool = False
    schedule_steps: tuple[int, ...] = ()

    @property
    def steps_per_epoch(self) -> int:
        """Mini-batches of an epoch; the last may be short, or dropped."""
        return steps_per_epoch(self.samples, self.batch_size, drop_last=self.drop_last)

    @property
    def total_epochs(self) -> float:
        """Number of planned epochs; not whole if the run ends within an epoch."""
        return self.total_steps / self.steps_per_epoch

    def epoch_of(self, step: int) -> int:
        """Return the number of the epoch of a step."""
        return (step - 1) // self.steps_per_epoch + 1

    def ends_epoch(self, step: int) -> bool:
        """Return whether the step is the last of its epoch, or of the run."""
        return step % self.steps_per_epoch == 0 or step == self.total_steps

    def completes_epoch(self, step: int) -> bool:
        """Return whether the step is the last of its epoch in a run of any length."""
        return step % self.steps_per_epoch == 0

    def batch_of(self, step: int) -> tuple[int, int]:
        """Return [start, stop) of the step's mini-batch in the order of its epoch."""
        return batch_bounds((step - 1) % self.steps_per_epoch, self.samples, self.batch_size)

    def schedule_length(self, step: int) -> int:
        """Return the number of steps that the learning-rate schedule is planned for.

        ``schedule_steps`` is n, or n, a, m, ...: n steps up to step a, then m steps. If the
        last length is missing, it is that of the run.
        """
        lengths, ends = self.schedule_steps[::2], self.schedule_steps[1::2]
        part = sum(step > end for end in ends)
        return lengths[part] if part < len(lengths) else self.total_steps

    def cut_at(self, step: int) -> Plan:
        """Return the plan that ends after this step, with the same learning rates."""
        schedule = self.schedule_steps
        if len(schedule) % 2 == 0:
            schedule = (*schedule, self.total_steps)
        return dataclasses.replace(self, total_steps=step, schedule_steps=schedule)


def make_plan(train: TrainSpec, samples: int) -> Plan:
    """Return the plan for ``samples`` training samples; epochs or steps, the fewer, end it."""
    drop_last = train.last_batch == "drop"
    limits = []
    if train.epochs is not None:
        steps = steps_per_epoch(samples, train.batch_size, drop_last=drop_last)
        limits.append(train.epochs * steps)
    if train.steps is not None:
        limits.append(train.steps)
    return Plan(samples, train.batch_size, min(limits), drop_last, train.schedule_steps or ())


TIME: Final = "time"
CONTINUABLE: Final = ("epochs", "steps", TIME)  # reasons after which a run can be longer


@final
@dataclass(frozen=True)
class Ending:
    """The planned end of a run.

    ``max_seconds`` limits training in this process, and replaces ``train.max_seconds``.
    """

    plan: Plan
    train: TrainSpec
    max_seconds: float | None = None

    def time_is_up(self, before: float, since: float) -> bool:
        """Return whether the time limit has passed.

        ``before`` and ``since`` are seconds of training before and in this process.
        """
        if self.max_seconds is not None:
            return since >= self.max_seconds
        return self.train.max_seconds is not None and before + since >= self.train.max_seconds

    def decides(self, step: int) -> bool:
        """Return whether a run of any length evaluates ``train.stop``'s metric after this step.

        If not, the evaluation happens only because the run ends; it must not decide that the
        run has converged, since the run may be continued.
        """
        if not self.plan.completes_epoch(step):
            return False
        stop = self.train.stop
        if stop is None or not stop.metric.startswith("validation_"):
            return True
        return self.plan.epoch_of(step) % self.train.evaluate_every_epochs == 0

    def planned(self, step: int) -> str:
        """Return the limit that ends the run at this last step: ``"epochs"`` or ``"steps"``."""
        epoch = self.plan.epoch_of(step)
        whole = self.plan.completes_epoch(step) and epoch == self.train.epochs
        return "epochs" if whole else "steps"
