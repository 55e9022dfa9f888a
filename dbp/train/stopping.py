"""Early stopping: decide from metrics whether a run has converged or reached its target.

Every rank has the same bits of the metrics, so all ranks decide alike without communication.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NotRequired, TypedDict, final

from dbp.job.best import DEFAULT_METRIC
from dbp.job.spec.job_spec import StopSpec, TrainSpec
from dbp.train.run_spec import RunSpec


class StoppingState(TypedDict):
    """The state of a stopping rule, as a JSON object; older versions wrote fewer keys."""

    best: float | None
    best_epoch: int
    epochs_without_number: NotRequired[int]


def make_stopping(resolved: RunSpec) -> Stopping:
    """Return the stopping rule of a spec."""
    stop = resolved.spec.train.stop
    kind = stop.metric.partition("_")[2] if stop is not None else "loss"
    better = {name: metric.higher_is_better() for name, metric in resolved.metrics}
    return Stopping(
        stop,
        higher_is_better=better.get(kind, False),
        every=epochs_between(stop.metric if stop else "", resolved.spec.train),
    )


def epochs_between(metric: str, train: TrainSpec) -> int:
    """Return the number of epochs between two measurements of a metric."""
    return train.evaluate_every_epochs if metric.startswith("validation_") else 1


@final
class Stopping:
    """The stopping rule of a run; stores the best value so far and its epoch."""

    def __init__(
        self, spec: StopSpec | None, *, higher_is_better: bool, every: int = 1
    ) -> None:
        """Watch the metric of ``spec``.

        ``higher_is_better`` is the direction of improvement, ``every`` the number of epochs
        between measurements. Without a spec the rule never stops a run, and the best epoch is
        that of the lowest validation loss.
        """
        self._spec = spec or StopSpec(metric=DEFAULT_METRIC)
        self._every = every
        self._sign = -1.0 if higher_is_better else 1.0
        self.reset()

    def reset(self) -> None:
        """Return to the state before the first epoch."""
        self._best = float("inf")
        self._best_epoch = 0
        self._without_number = 0  # epochs since the best one in which the value was NaN
        self.improved = False

    @property
    def measured(self) -> bool:
        """Whether the metric has ever been a number."""
        return self._best_epoch > 0

    def state(self) -> StoppingState:
        """Return the state for ``restore``, as a JSON object."""
        best = None if self._best == float("inf") else self._best
        return {
            "best": best,
            "best_epoch": self._best_epoch,
            "epochs_without_number": self._without_number,
        }

    def restore(self, state: StoppingState) -> None:
        """Restore the state of a checkpoint."""
        self._best = float("inf") if state["best"] is None else float(state["best"])
        self._best_epoch = int(state["best_epoch"])
        self._without_number = int(state.get("epochs_without_number", 0))

    def decide(self, epoch: int, figures: Mapping[str, float]) -> str | None:
        """Return ``"target"``, ``"converged"`` or None, from the metrics of this epoch.

        Epochs without a measurement of the watched metric never stop a run; patience does not
        count epochs in which it is not finite. Sets ``improved`` to whether this epoch is the
        best so far.
        """
        self.improved = False
        if self._spec.metric not in figures:
            return None
        value = self._sign * figures[self._spec.metric]
        if not math.isfinite(value):
            self._without_number += self._every
            return None
        if value < self._best - self._spec.tolerance:
            self._best, self._best_epoch = value, epoch
            self._without_number = 0
            self.improved = True
        if self._spec.target is not None and value <= self._sign * self._spec.target:
            return "target"
        waited = epoch - self._best_epoch - self._without_number
        if self._spec.patience is not None and waited >= self._spec.patience:
            return "converged"
        return None
