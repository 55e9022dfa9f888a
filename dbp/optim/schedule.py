"""Learning-rate schedules: pure functions of the step. They hold no state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from dbp.registry import option


class Schedule(ABC):
    """The learning rate as a function of the step."""

    @abstractmethod
    def value(self, step: int, total_steps: int) -> float:
        """The rate at ``step`` (from 1) of a run planned to take ``total_steps``."""

    def uses_total_steps(self) -> bool:
        """Whether ``value`` depends on ``total_steps``: then a longer run asks how to go on."""
        return True

    def metric(self) -> str | None:
        """The figure that the rate depends on, if on any; measured at the ends of epochs."""
        return None

    def scale(self, history: Sequence[float], epochs: Sequence[int] | None = None) -> float:
        """The factor on the rate, from the metric's values so far.

        ``epochs``: the epoch of each value, ascending; left out: 1, 2, 3, ... A value that is
        not finite says nothing.
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
