"""Learning-rate schedules that fall: by steps, exponentially, or by a power of the step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from dbp.optim.schedule import LengthProblem, Schedule, warmup_problems
from dbp.quantities import count_text
from dbp.registry import option


@final
@dataclass(frozen=True)
class StepDecay(Schedule):
    """rate * factor^n after n times ``every`` steps."""

    rate: float = option(0.01, doc="learning rate of the first step", above=0.0)
    every: int = option(doc="number of steps between two falls of the rate", minimum=1)
    factor: float = option(0.1, doc="factor of the rate at each fall", above=0.0, maximum=1.0)

    def value(self, step: int, total_steps: int) -> float:
        return self.rate * self.factor ** ((step - 1) // self.every)

    def uses_total_steps(self) -> bool:
        return False

    def length_problems(self, total_steps: int, epochs: float) -> Iterator[LengthProblem]:
        if self.every >= total_steps:
            message = (
                f"the rate never falls: the run has {count_text(total_steps, 'step')}, every "
                f"is {self.every:,}"
            )
            yield LengthProblem("every", message)


@final
@dataclass(frozen=True)
class MultiStepDecay(Schedule):
    """rate * factor^n after n of the milestones."""

    rate: float = option(0.01, doc="learning rate of the first step", above=0.0)
    milestones: tuple[int, ...] = option(
        doc="numbers of steps after which the rate falls, ascending"
    )
    factor: float = option(0.1, doc="factor of the rate at each fall", above=0.0, maximum=1.0)

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.milestones, self.milestones[1:], strict=False))
        if not self.milestones or self.milestones[0] < 1 or not rising:
            raise ValueError(
                f"milestones: must be integers >= 1, ascending, got {self.milestones}"
            )

    def value(self, step: int, total_steps: int) -> float:
        return self.rate * self.factor ** sum(step > m for m in self.milestones)

    def uses_total_steps(self) -> bool:
        return False

    def length_problems(self, total_steps: int, epochs: float) -> Iterator[LengthProblem]:
        beyond = [f"{m:,}" for m in self.milestones if m >= total_steps]
        if beyond:
            message = (
                f"the rate does not fall after step {' or '.join(beyond)}: the run has "
                f"{count_text(total_steps, 'step')}"
            )
            yield LengthProblem("milestones", message)


@final
@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """rate * factor^(step - 1) at each step."""

    rate: float = option(0.01, doc="learning rate of the first step", above=0.0)
    factor: float = option(0.999, doc="factor of the rate at each step", above=0.0, maximum=1.0)

    def value(self, step: int, total_steps: int) -> float:
        return self.rate * self.factor ** (step - 1)

    def uses_total_steps(self) -> bool:
        return False


@final
@dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """floor + (rate - floor) (1 - t / n)^power after t of n steps."""

    rate: float = option(0.01, doc="learning rate of the first step", above=0.0)
    floor: float = option(0.0, doc="learning rate at the end", minimum=0.0)
    power: float = option(1.0, doc="exponent; 1 is a straight line", above=0.0)
    steps: int | None = option(
        None, doc="n; left out: the number of steps of the run", minimum=1
    )

    def value(self, step: int, total_steps: int) -> float:
        left = 1 - min(1.0, (step - 1) / (self.steps or total_steps))
        return self.floor + (self.rate - self.floor) * math.pow(left, self.power)

    def uses_total_steps(self) -> bool:
        return self.steps is None

    def length_problems(self, total_steps: int, epochs: float) -> Iterator[LengthProblem]:
        if self.steps is not None and self.steps > total_steps:
            last = self.value(total_steps, total_steps)
            message = (
                f"the rate is {last:.3g} at the end and does not reach the floor, "
                f"{self.floor:.3g}: the run has {count_text(total_steps, 'step')}, steps is "
                f"{self.steps:,}"
            )
            yield LengthProblem("steps", message)
        elif self.steps is not None and self.steps < total_steps and self.floor == 0:
            message = (
                f"the rate is 0 after {count_text(self.steps, 'step')}, and the run has "
                f"{total_steps:,}: later steps change nothing; set floor, or leave out steps"
            )
            yield LengthProblem("steps", message)


@final
@dataclass(frozen=True)
class InverseSquareRoot(Schedule):
    """Linear warm-up to ``peak``, then peak * sqrt(warmup_steps / step).

    Vaswani et al., "Attention Is All You Need", 2017, equation 3.
    """

    peak: float = option(doc="highest learning rate", above=0.0)
    warmup_steps: int = option(1, doc="steps of linear warm-up", minimum=1)

    def value(self, step: int, total_steps: int) -> float:
        return self.peak * min(step / self.warmup_steps, math.sqrt(self.warmup_steps / step))

    def uses_total_steps(self) -> bool:
        return False

    def length_problems(self, total_steps: int, epochs: float) -> Iterator[LengthProblem]:
        yield from warmup_problems("warmup_steps", self.warmup_steps, total_steps)
