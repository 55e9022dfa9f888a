"""Learning-rate schedules with cycles: cosine restarts, and one cycle."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from dbp.optim.schedule import LengthProblem, Schedule
from dbp.quantities import count_text
from dbp.registry import option


def _cosine(start: float, end: float, share: float) -> float:
    """Return the value from ``start`` (share 0) to ``end`` (share 1) along half a cosine."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


@final
@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Half a cosine from ``peak`` to ``floor``, restarted after each period.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017,
    equation 5.
    """

    peak: float = option(doc="learning rate at each restart", above=0.0)
    floor: float = option(0.0, doc="learning rate before each restart", minimum=0.0)
    period: int = option(doc="steps before the first restart", minimum=1)
    growth: int = option(1, doc="factor of the period at each restart", minimum=1)

    def value(self, step: int, total_steps: int) -> float:
        done, period = step - 1, self.period
        if self.growth == 1:
            done %= period
        else:
            while done >= period:
                done -= period
                period *= self.growth
        return _cosine(self.peak, self.floor, done / period)

    def uses_total_steps(self) -> bool:
        return False

    def length_problems(self, total_steps: int, epochs: float) -> Iterator[LengthProblem]:
        if self.period > total_steps:
            last = self.value(total_steps, total_steps)
            message = (
                f"the run has {count_text(total_steps, 'step')} and ends in the first "
                f"period, of {count_text(self.period, 'step')}, at a rate of {last:.3g}"
            )
            yield LengthProblem("period", message)


@final
@dataclass(frozen=True)
class OneCycle(Schedule):
    """Rise from peak / start_divisor to ``peak``, then fall, along half cosines.

    The rate at the last step is peak / (start_divisor * end_divisor).

    Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large
    Learning Rates", 2019, in PyTorch's form.
    """

    peak: float = option(doc="highest learning rate", above=0.0)
    rise: float = option(
        0.3, doc="share of the run in which the rate rises", above=0.0, below=1.0
    )
    start_divisor: float = option(25.0, doc="peak divided by the first rate", minimum=1.0)
    end_divisor: float = option(1e4, doc="first rate divided by the last rate", minimum=1.0)

    def value(self, step: int, total_steps: int) -> float:
        first, done = self.peak / self.start_divisor, step - 1
        top, end = self.rise * total_steps - 1, total_steps - 1
        if done <= top and top > 0:
            return _cosine(first, self.peak, done / top)
        share = min(1.0, (done - top) / (end - top)) if end > top else 1.0
        return _cosine(self.peak, first / self.end_divisor, share)
