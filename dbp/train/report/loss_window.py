"""Sum up the losses of the steps between two reports."""

from __future__ import annotations

import math
from typing import final

from dbp.job.step_window import StepWindow
from dbp.train.step_facts import StepResult


@final
class LossWindow:
    """Losses of the steps since the last report."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all steps so far."""
        self._first = 0
        self._counted = 0
        self._sum = 0.0
        self._least, self._greatest = math.inf, -math.inf
        self._saved: tuple[int, int, int, float, float, float] | None = None

    def add(self, step: int, result: StepResult) -> None:
        """Add the loss of a step, if it is finite."""
        if not self._first:
            self._first = step
        loss = mean_loss(result)
        if math.isfinite(loss):
            self._counted += 1
            self._sum += loss
            self._least = min(self._least, loss)
            self._greatest = max(self._greatest, loss)

    def save(self, step: int) -> None:
        """Note the figures up to ``step``, to which a later roll-back may return."""
        self._saved = (
            step, self._first, self._counted, self._sum, self._least, self._greatest
        )  # fmt: skip

    def roll_back(self, step: int) -> None:
        """Forget the steps after ``step``; all, if it is not the one of the last ``save``."""
        saved = self._saved
        self.clear()
        if saved is not None and saved[0] == step:
            _, self._first, self._counted, self._sum, self._least, self._greatest = saved
            self._saved = saved

    def take(self, rollbacks: int) -> StepWindow | None:
        """Return the window of all steps, and forget them; None if there are none."""
        if not self._first:
            return None
        counted = self._counted
        window = StepWindow(
            first_step=self._first,
            counted=counted,
            loss_mean=self._sum / counted if counted else math.nan,
            loss_min=self._least if counted else math.nan,
            loss_max=self._greatest if counted else math.nan,
            rollbacks=rollbacks,
        )
        self.clear()
        return window


def mean_loss(result: StepResult) -> float:
    """Return the mean loss of a mini-batch; NaN if it was skipped or has no weight."""
    if result.failure or not result.weight:
        return math.nan
    return result.loss_sum / result.weight
