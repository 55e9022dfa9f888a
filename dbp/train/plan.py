"""How long a run is: mini-batches, steps and epochs, all known before the first step."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from dbp.data.sampler import batch_bounds, steps_per_epoch
from dbp.job.spec import TrainSpec


@dataclass(frozen=True)
class Plan:
    """Steps of a run over ``samples`` training samples; steps and epochs count from 1."""

    samples: int
    batch_size: int
    total_steps: int
    drop_last: bool = False
    schedule_steps: tuple[int, ...] = ()

    @property
    def steps_per_epoch(self) -> int:
        """Mini-batches of one pass; the last may be short, or dropped then."""
        return steps_per_epoch(self.samples, self.batch_size, drop_last=self.drop_last)

    @property
    def total_epochs(self) -> float:
        """Passes planned, the last perhaps in part."""
        return self.total_steps / self.steps_per_epoch

    def epoch_of(self, step: int) -> int:
        """The epoch a step belongs to."""
        return (step - 1) // self.steps_per_epoch + 1

    def ends_epoch(self, step: int) -> bool:
        """Whether the step is the last of its epoch, or of the run."""
        return step % self.steps_per_epoch == 0 or step == self.total_steps

    def completes_epoch(self, step: int) -> bool:
        """Whether the step is the last of its epoch in a run of any length."""
        return step % self.steps_per_epoch == 0

    def batch_of(self, step: int) -> tuple[int, int]:
        """The positions [start, stop) of the step's mini-batch in its epoch's order."""
        return batch_bounds((step - 1) % self.steps_per_epoch, self.samples, self.batch_size)

    def schedule_length(self, step: int) -> int:
        """The steps that the learning rate's schedule is planned for, as of this step.

        ``schedule_steps``: n, or n, a, m, ...: n up to step a, then m; where the last length
        is left out, that of the run.
        """
        lengths, ends = self.schedule_steps[::2], self.schedule_steps[1::2]
        part = sum(step > end for end in ends)
        return lengths[part] if part < len(lengths) else self.total_steps

    def cut_at(self, step: int) -> Plan:
        """The same plan, ended after this step; learning rates stay as they were planned."""
        schedule = self.schedule_steps
        if len(schedule) % 2 == 0:
            schedule = (*schedule, self.total_steps)
        return dataclasses.replace(self, total_steps=step, schedule_steps=schedule)


def make_plan(train: TrainSpec, samples: int) -> Plan:
    """The plan for this many training samples: epochs or steps, whichever ends first."""
    drop_last = train.last_batch == "drop"
    limits = []
    if train.epochs is not None:
        steps = steps_per_epoch(samples, train.batch_size, drop_last=drop_last)
        limits.append(train.epochs * steps)
    if train.steps is not None:
        limits.append(train.steps)
    return Plan(samples, train.batch_size, min(limits), drop_last, train.schedule_steps or ())
