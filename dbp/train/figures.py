"""The newest figures of a run, by name. It holds numbers; it decides nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

import numpy as np

from dbp.nn.layer import Array
from dbp.nn.model import Model


@final
class Figures:
    """Sums over the present epoch's mini-batches, and what the last evaluations gave."""

    def __init__(self, model: Model, metric_kinds: tuple[str, ...]) -> None:
        self._model = model
        self._kinds = metric_kinds
        self._sums = np.zeros(sum(model.metric_sizes), np.float64)
        self._loss_sum = 0.0
        self._weight = 0.0
        self._values: dict[str, float] = {}

    def state(self) -> dict[str, object]:
        """What ``restore`` takes; JSON can hold it."""
        return {
            "sums": self._sums.tolist(),
            "loss_sum": self._loss_sum,
            "weight": self._weight,
            "values": {n: v if math.isfinite(v) else repr(v) for n, v in self._values.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken, bit for bit."""
        self._sums[:] = state["sums"]
        self._loss_sum, self._weight = float(state["loss_sum"]), float(state["weight"])
        self._values = {name: float(value) for name, value in state["values"].items()}

    def clear(self) -> None:
        """Forget everything."""
        self.start_epoch()
        self._values.clear()

    def start_epoch(self) -> None:
        """Forget the sums; the figures stay until newer ones come."""
        self._sums.fill(0.0)
        self._loss_sum = self._weight = 0.0

    def add_batch(self, loss_sum: float, weight: float, metric_sums: Array) -> None:
        """Add a mini-batch's sums over all ranks."""
        self._loss_sum += loss_sum
        self._weight += weight
        self._sums += metric_sums

    def put(self, values: Mapping[str, float], prefix: str = "") -> None:
        """Note figures by name, for instance those of an evaluation."""
        self._values |= {prefix + name: value for name, value in values.items()}

    def newest(self) -> dict[str, float]:
        """All figures; those of training are means over the epoch so far."""
        if self._weight:
            values = self._model.metric_values(self._sums)
            self.put({"loss": self._loss_sum / self._weight}, "training_")
            for kind, metric, own in zip(self._kinds, self._model.metrics, values, strict=True):
                if metric.is_summed():
                    self.put(own, f"training_{kind}")
        return dict(self._values)
