"""Whether a run has converged or reached its target. It sees figures, not parameters.

Every rank holds the same figures, bit by bit, so every rank decides alike without asking.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from dbp.job.spec import StopSpec


@final
class Stopping:
    """The rule of one run; keeps the best value so far and its epoch."""

    def __init__(self, spec: StopSpec | None, *, higher_is_better: bool) -> None:
        """``higher_is_better`` tells which way the watched metric improves."""
        self._spec = spec
        self._sign = -1.0 if higher_is_better else 1.0
        self._best = float("inf")
        self._best_epoch = 0

    def decide(self, epoch: int, figures: Mapping[str, float]) -> str | None:
        """``"target"``, ``"converged"`` or None, from the figures of this epoch.

        Epochs in which the watched metric was not measured decide nothing.
        """
        if self._spec is None or self._spec.metric not in figures:
            return None
        value = self._sign * figures[self._spec.metric]
        if self._spec.target is not None and value <= self._sign * self._spec.target:
            return "target"
        if value < self._best - self._spec.tolerance:  # never true of NaN
            self._best, self._best_epoch = value, epoch
        if self._spec.patience is not None and epoch - self._best_epoch >= self._spec.patience:
            return "converged"
        return None
