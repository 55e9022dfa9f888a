"""The interface of learning-rate schedules (pure functions of the step), and two of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

from dbp.registry import option


@dataclass(frozen=True)
class LengthProblem:
    """An option of a schedule that does not fit the length of the run.

    ``refused``: whether the schedule is useless like this, so that the spec is invalid.
    """

    option: str
    message: str
    refused: bool = False


class Schedule(ABC):
    """A learning rate as a function of the step."""

    @abstractmethod
    def value(self, step: int, total_steps: int) -> float:
        """Return the rate at ``step`` (from 1) of a run planned for ``total_steps`` steps."""

    def uses_total_steps(self) -> bool:
        """Return whether ``value`` depends on ``total_steps``.

        If it does, a resumed run that is made longer needs the option ``--schedule``.
        """
        return True

    def metric(self) -> str | None:
        """Return the name of the metric, measured after epochs, that the rate depends on."""
        return None

    def length_problems(self, total_steps: int, epochs: float) -> Iterable[LengthProblem]:
        """Return the options that do not fit a run of this many steps, and of this many epochs.

        Override it where an option counts steps or epochs of its own.
        """
        return ()

    def scale(self, history: Sequence[float], epochs: Sequence[int] | None = None) -> float:
        """Return the factor of the rate for these values of ``metric``.

        ``epochs`` are the epochs of the values, ascending; by default 1, 2, 3, ... Values that
        are not finite are ignored.
        """
        return 1.0


@final
@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate at every step."""

    rate: float = option(0.01, doc="learning rate", above=0.0)

    def value(self, step: int, total_steps: int) -> float:
        return self.rate

    def uses_total_steps(self) -> bool:
        return False


@final
@dataclass(frozen=True)
class Cosine(Schedule):
    """Linear warm-up to ``peak``, then half a cosine down to ``floor`` at the last step.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017,
    equation 5, without restarts.
    """

    peak: float = option(doc="highest learning rate", above=0.0)
    floor: float = option(0.0, doc="learning rate at the last step", minimum=0.0)
    warmup_steps: int = option(0, doc="steps of linear warm-up", minimum=0)

    def value(self, step: int, total_steps: int) -> float:
        if step <= self.warmup_steps:
            return self.peak * step / self.warmup_steps
        span = max(1, total_steps - self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / span)
        return self.floor + (self.peak - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))

    def length_problems(self, total_steps: int, epochs: float) -> Iterator[LengthProblem]:
        yield from warmup_problems("warmup_steps", self.warmup_steps, total_steps)


def warmup_problems(option: str, steps: int, total_steps: int) -> Iterator[LengthProblem]:
    """Yield the problem of a warm-up that is longer than the run."""
    if steps > total_steps:
        message = (
            f"must be <= the steps of the run ({total_steps:,}), or the warm-up never ends, "
            f"got {steps:,}; warm up in fewer steps or train longer (train.epochs, train.steps)"
        )
        yield LengthProblem(option, message, refused=True)
