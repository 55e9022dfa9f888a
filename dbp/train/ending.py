"""How a run comes to its planned end. It sees the plan, not the parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from dbp.job.spec import TrainSpec
from dbp.train.plan import Plan

CONTINUABLE: Final = ("epochs", "steps", "time")  # reasons after which a run can be longer


@final
@dataclass(frozen=True)
class Ending:
    """The planned end of one run.

    ``max_seconds``: of training in this process, in place of ``train.max_seconds``.
    """

    plan: Plan
    train: TrainSpec
    max_seconds: float | None = None

    def time_is_up(self, before: float, since: float) -> bool:
        """Whether so many seconds of training before this process and since end the run."""
        if self.max_seconds is not None:
            return since >= self.max_seconds
        return self.train.max_seconds is not None and before + since >= self.train.max_seconds

    def decides(self, step: int) -> bool:
        """Whether a run of any length evaluates the metric of ``train.stop`` after this step.

        Otherwise the evaluation is made because the run ends, and must not decide that the
        run has converged: it may be continued.
        """
        if not self.plan.completes_epoch(step):
            return False
        stop = self.train.stop
        if stop is None or not stop.metric.startswith("validation_"):
            return True
        return self.plan.epoch_of(step) % self.train.evaluate_every_epochs == 0

    def planned(self, step: int) -> str:
        """Which limit ends the run at this step, its last: ``"epochs"`` or ``"steps"``."""
        epoch = self.plan.epoch_of(step)
        whole = self.plan.completes_epoch(step) and epoch == self.train.epochs
        return "epochs" if whole else "steps"
