"""Warm-up before any schedule, and the schedule that reacts to a metric (plateau)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

from dbp.optim.schedule import Constant, LengthProblem, Schedule, warmup_problems
from dbp.quantities import count_text
from dbp.registry import option


@final
@dataclass(frozen=True)
class Warmup(Schedule):
    """Rise linearly to the first rate of another schedule, then follow that schedule.

    Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.2.
    """

    steps: int = option(doc="steps of warm-up", minimum=1)
    start: float = option(
        0.0,
        doc="rate before the first step, as a share of the first rate",
        minimum=0.0,
        below=1.0,
    )
    then: Schedule = option(
        Constant(), doc="schedule after the warm-up", group="schedules", shorthand="constant"
    )

    def value(self, step: int, total_steps: int) -> float:
        """``then`` counts its steps from the end of the warm-up."""
        rest = max(1, total_steps - self.steps)
        if step > self.steps:
            return self.then.value(step - self.steps, rest)
        share = self.start + (1 - self.start) * step / self.steps
        return self.then.value(1, rest) * share

    def uses_total_steps(self) -> bool:
        return self.then.uses_total_steps()

    def length_problems(self, total_steps: int, epochs: float) -> Iterator[LengthProblem]:
        yield from warmup_problems("steps", self.steps, total_steps)
        if self.steps < total_steps:
            for problem in self.then.length_problems(total_steps - self.steps, epochs):
                yield replace(problem, option=f"then.{problem.option}")

    def metric(self) -> str | None:
        return self.then.metric()

    def scale(self, history: Sequence[float], epochs: Sequence[int] | None = None) -> float:
        return self.then.scale(history, epochs)


@final
@dataclass(frozen=True)
class Plateau(Schedule):
    """Multiply the rate by ``factor`` whenever a metric has not improved for some epochs."""

    rate: float = option(0.01, doc="learning rate of the first step", above=0.0)
    watched: str = option("validation_loss", doc="the metric, named as in train.stop.metric")
    better: Literal["lower", "higher"] = option(
        "lower", doc="whether lower or higher values are better"
    )
    factor: float = option(0.1, doc="factor of the rate at each fall", above=0.0, below=1.0)
    patience: int = option(
        10,
        doc="an evaluation lowers the rate after more epochs than this without improvement",
        minimum=0,
    )
    tolerance: float = option(
        1e-4, doc="a smaller improvement than this counts as none", minimum=0.0
    )
    minimum: float = option(0.0, doc="lowest learning rate", minimum=0.0)

    def value(self, step: int, total_steps: int) -> float:
        return self.rate

    def uses_total_steps(self) -> bool:
        return False

    def length_problems(self, total_steps: int, epochs: float) -> Iterator[LengthProblem]:
        if self.patience >= epochs:
            message = (
                f"the rate never falls: patience is {count_text(self.patience, 'epoch')}, and "
                f"the run has {count_text(math.ceil(epochs), 'epoch')}"
            )
            yield LengthProblem("patience", message)

    def metric(self) -> str | None:
        return self.watched

    def scale(self, history: Sequence[float], epochs: Sequence[int] | None = None) -> float:
        """An evaluation counts for all epochs since the previous one."""
        sign = 1.0 if self.better == "lower" else -1.0
        best, waited, falls, last = float("inf"), 0, 0, 0
        for value, epoch in zip(history, epochs or range(1, len(history) + 1), strict=True):
            passed, last = epoch - last, epoch
            if not math.isfinite(value):
                continue
            if sign * value < best - self.tolerance:
                best, waited = sign * value, 0
            else:
                waited += passed
            if waited > self.patience:
                waited, falls = 0, falls + 1
        return max(self.factor**falls, min(1.0, self.minimum / self.rate))
