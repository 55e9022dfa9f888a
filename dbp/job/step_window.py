"""The losses of the steps between two progress reports: mean, least and greatest. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class StepWindow:
    """The steps from ``first_step`` to that of the report, after the report before it.

    Attributes:
        first_step: Number of the first of these steps.
        counted: Number of these steps whose loss is finite; the others are in no figure here.
        loss_mean: Mean of the finite losses; NaN if there is none, as the two below.
        loss_min: Least finite loss.
        loss_max: Greatest finite loss.
        rollbacks: Number of roll-backs of the run before these steps.
    """

    first_step: int
    counted: int
    loss_mean: float
    loss_min: float
    loss_max: float
    rollbacks: int = 0

    def joined(self, later: StepWindow) -> StepWindow:
        """Return the window of these steps and of the ``later`` ones, which follow them."""
        counted = self.counted + later.counted
        return StepWindow(
            first_step=self.first_step,
            counted=counted,
            loss_mean=joined_mean(self.loss_mean, self.counted, later.loss_mean, later.counted),
            loss_min=least(self.loss_min, later.loss_min),
            loss_max=-least(-self.loss_max, -later.loss_max),
            rollbacks=later.rollbacks,
        )

    def is_valid(self, step: int) -> bool:
        """Return whether these can be the steps up to ``step``, the one of the report."""
        return 1 <= self.first_step <= step and 0 <= self.counted <= step - self.first_step + 1

    def precedes(self, later: StepWindow, step: int) -> bool:
        """Return whether ``later`` follows this window, whose last step is ``step``."""
        return later.first_step == step + 1 and later.rollbacks == self.rollbacks


def joined_mean(mean: float, counted: int, later_mean: float, later_counted: int) -> float:
    """Return the mean of two groups from their means; NaN if both are empty."""
    if not counted:
        return later_mean
    if not later_counted:
        return mean
    return mean + (later_mean - mean) * (later_counted / (counted + later_counted))


def least(one: float, other: float) -> float:
    """Return the lesser of two numbers; a NaN is none."""
    return other if math.isnan(one) or other < one else one
