"""Decide when a run reaches its planned end: its last step, or its time limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from dbp.job.spec import TrainSpec
from dbp.train.plan import Plan

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
