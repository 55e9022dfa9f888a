"""Collect all samples' scores for metrics that are not sums over samples (ScoreMetric)."""

from __future__ import annotations

from typing import final

import numpy as np

from dbp.nn.layer import Array
from dbp.nn.metric import ScoreMetric
from dbp.nn.model import Model


@final
class ScoreTable:
    """A table with a row for each sample: scores of all such metrics, target, weight.

    A rank fills in its own samples and leaves the rest 0, so that an allreduce completes it.
    """

    def __init__(self, model: Model, kinds: tuple[str, ...], samples: int) -> None:
        self._metrics: list[tuple[str, ScoreMetric, slice]] = []
        end = 0
        for kind, metric in zip(kinds, model.metrics, strict=True):
            if isinstance(metric, ScoreMetric):
                start, end = end, end + metric.columns(model.output_shape)
                self._metrics.append((kind, metric, slice(start, end)))
        # Without such a metric it uses no memory and exchanges nothing.
        self.table = np.zeros((samples, end + 2) if self._metrics else (0, 2))

    def clear(self) -> None:
        """Set all rows to 0 for a new evaluation."""
        self.table.fill(0.0)

    def put(self, rows: slice, prediction: Array, target: Array, weight: Array | None) -> None:
        """Write the rows of these samples."""
        if not self._metrics:
            return
        own = self.table[rows]
        for _, metric, columns in self._metrics:
            metric.write_scores(prediction, own[:, columns])
        own[:, -2] = target
        own[:, -1] = 1.0 if weight is None else weight

    def figures(self) -> dict[str, float]:
        """Compute each metric from the complete table; return them by kind."""
        target, weight = self.table[:, -2], self.table[:, -1]
        return {
            kind: metric.figure(self.table[:, columns], target, weight)
            for kind, metric, columns in self._metrics
        }
