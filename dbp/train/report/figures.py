"""Collect the newest metrics of a run: means over the epoch, results of evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NotRequired, TypedDict, final

import numpy as np

from dbp.nn.layer import Array
from dbp.nn.model import Model

TRAINING: Final = "training_"


class FiguresState(TypedDict):
    """Figures as stored in a checkpoint; ``values`` that are not finite are texts.

    Earlier versions of dbp did not store ``applied`` and ``skipped``.
    """

    sums: list[float]
    loss_sum: float
    weight: float
    applied: NotRequired[int]
    skipped: NotRequired[int]
    values: Mapping[str, float | str]


@final
class Figures:
    """Sums over the present epoch's mini-batches, and the results of the last evaluations."""

    def __init__(self, model: Model, metric_kinds: tuple[str, ...]) -> None:
        self._model = model
        self._kinds = metric_kinds
        self._sums = np.zeros(sum(model.metric_sizes), np.float64)
        self._loss_sum = 0.0
        self._weight = 0.0
        self._applied = 0
        self.skipped = 0  # mini-batches skipped in this epoch
        self._values: dict[str, float] = {}

    @property
    def idle(self) -> bool:
        """Whether all mini-batches of this epoch so far were skipped."""
        return self.skipped > 0 and self._applied == 0

    @property
    def _weightless(self) -> bool:
        """Whether the samples of this epoch so far have no weight, so that no mean exists."""
        return self._applied > 0 and not self._weight

    def state(self) -> FiguresState:
        """Return the state for ``restore``, as a JSON object."""
        return {
            "sums": self._sums.tolist(),
            "loss_sum": self._loss_sum,
            "weight": self._weight,
            "applied": self._applied,
            "skipped": self.skipped,
            "values": {n: v if math.isfinite(v) else repr(v) for n, v in self._values.items()},
        }

    def restore(self, state: FiguresState) -> None:
        """Restore a state, bit for bit."""
        sums = state["sums"]
        # An older version may have stored other sums; they cannot be used.
        self._sums[:] = sums if len(sums) == len(self._sums) else math.nan
        self._loss_sum, self._weight = float(state["loss_sum"]), float(state["weight"])
        self._applied = int(state.get("applied", self._weight > 0))
        self.skipped = int(state.get("skipped", 0))
        self._values = {name: float(value) for name, value in state["values"].items()}

    def clear(self) -> None:
        """Reset to the state before the first step."""
        self.start_epoch()
        self._values.clear()

    def start_epoch(self) -> None:
        """Reset the sums; the metrics stay until newer ones replace them."""
        self._sums.fill(0.0)
        self._loss_sum = self._weight = 0.0
        self._applied = self.skipped = 0

    def add_batch(self, loss_sum: float, weight: float, metric_sums: Array) -> None:
        """Add a mini-batch's sums over all ranks."""
        self._applied += 1
        self._loss_sum += loss_sum
        self._weight += weight
        self._sums += metric_sums

    def skip_batch(self) -> None:
        """Count a skipped mini-batch, which adds to no metric."""
        self.skipped += 1

    def put(self, values: Mapping[str, float], prefix: str = "") -> dict[str, float]:
        """Store metrics by name, for instance those of an evaluation; return them by name."""
        named = {prefix + name: value for name, value in values.items()}
        self._values |= named
        return named

    def of_training(self) -> dict[str, float]:
        """Return the means over the epoch so far."""
        return {name: value for name, value in self.newest().items() if _is_training(name)}

    def newest(self) -> dict[str, float]:
        """Return all metrics; those of training are means over the epoch so far."""
        if self.idle or self._weightless:
            self._values = {n: v for n, v in self._values.items() if not _is_training(n)}
        if self._weight:
            values = self._model.metric_values(self._sums)
            self.put({"loss": self._loss_sum / self._weight}, TRAINING)
            for kind, metric, own in zip(self._kinds, self._model.metrics, values, strict=True):
                if metric.is_summed():
                    self.put(own, TRAINING + kind)
        return dict(self._values)


def _is_training(name: str) -> bool:
    return name.startswith(TRAINING)
