"""Every sample's scores, for metrics that are no sums; see ScoreMetric."""

from __future__ import annotations

from typing import final

import numpy as np

from dbp.nn.layer import Array
from dbp.nn.metric import ScoreMetric
from dbp.nn.model import Model


@final
class ScoreTable:
    """A row for each sample: the scores of all such metrics, the target, the weight.

    A rank fills in its own samples and leaves the rest zero: the ranks' sum is the table.
    """

    def __init__(self, model: Model, kinds: tuple[str, ...], samples: int) -> None:
        self._metrics: list[tuple[str, ScoreMetric, slice]] = []
        end = 0
        for kind, metric in zip(kinds, model.metrics, strict=True):
            if isinstance(metric, ScoreMetric):
                start, end = end, end + metric.columns(model.output_shape)
                self._metrics.append((kind, metric, slice(start, end)))
        # No such metric: no memory, and nothing to exchange.
        self.table = np.zeros((samples, end + 2) if self._metrics else (0, 2))

    def clear(self) -> None:
        """Forget all samples."""
        self.table.fill(0.0)

    def put(self, rows: slice, prediction: Array, target: Array, weight: Array | None) -> None:
        """Note these samples."""
        if not self._metrics:
            return
        own = self.table[rows]
        for _, metric, columns in self._metrics:
            metric.write_scores(prediction, own[:, columns])
        own[:, -2] = target
        own[:, -1] = 1.0 if weight is None else weight

    def figures(self) -> dict[str, float]:
        """Each metric's figure by its kind, once the table is complete."""
        target, weight = self.table[:, -2], self.table[:, -1]
        return {
            kind: metric.figure(self.table[:, columns], target, weight)
            for kind, metric, columns in self._metrics
        }
