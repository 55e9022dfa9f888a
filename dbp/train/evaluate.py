"""Evaluate a model on a whole data set, with the same bits for any number of ranks.

The samples are cut into blocks of one size that does not depend on the ranks. Each rank
computes a range of blocks; one allreduce collects the sums of all blocks, which every rank
adds in the order of the blocks.
"""

from __future__ import annotations

from typing import Final, final

import numpy as np

from dbp.data.dataset import Dataset
from dbp.heartbeat.phase import NO_HEARTBEAT, Heartbeat, Phase
from dbp.nn.class_counts import ClassCounts
from dbp.nn.layer import Array
from dbp.nn.metric import ScoreMetric
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import Communicator
from dbp.train.build import Setup
from dbp.train.faults.agreement import all_or_none
from dbp.train.rows import RowReader


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


BLOCK_ROWS: Final = 256


@final
class Evaluator:
    """Evaluates a model on a data set; reuses its buffers from one call to the next."""

    def __init__(
        self,
        model: Model,
        rows: RowReader,
        communicator: Communicator,
        *,
        metric_kinds: tuple[str, ...],
        block_rows: int = BLOCK_ROWS,
        heartbeat: Heartbeat = NO_HEARTBEAT,
        class_counts: ClassCounts | None = None,
    ) -> None:
        """``metric_kinds`` are the kinds of the model's metrics, in order.

        ``class_counts``: where targets are classes, receives the counts of each run.
        """
        self._model = model
        self._rows = rows
        self._communicator = communicator
        self._kinds = metric_kinds
        self._heartbeat = heartbeat
        self._class_counts = class_counts
        self._block_rows = min(block_rows, rows.capacity)
        self._blocks = -(-len(rows.dataset) // self._block_rows)
        self._sums = np.empty((self._blocks, 2 + sum(model.metric_sizes)), np.float64)
        self._scores = ScoreTable(model, metric_kinds, len(rows.dataset))

    def run(self, parameters: Parameters) -> dict[str, float]:
        """Return the mean loss (``loss``) and every metric by its kind. Collective.

        Raises InvalidInput on every rank if one rank cannot read its samples.
        """
        self._sums.fill(0.0)
        self._scores.clear()
        if self._class_counts is not None:
            self._class_counts.clear()
        self._heartbeat.enter(Phase.EVALUATING)
        all_or_none(self._communicator, lambda: self._add_blocks(parameters))
        self._communicator.allreduce(self._sums.reshape(-1))
        self._communicator.allreduce(self._scores.table.reshape(-1))
        if self._class_counts is not None:
            self._communicator.allreduce(self._class_counts.vector)
        # The allreduce has only added zeros to each block; this order is always the same.
        total = np.zeros(self._sums.shape[1], np.float64)
        for sums in self._sums:
            total += sums
        figures = {"loss": float(total[0] / total[1])}
        for kind, values in zip(self._kinds, self._model.metric_values(total[2:]), strict=True):
            figures |= {kind + suffix: value for suffix, value in values.items()}
        return figures | self._scores.figures()

    def _add_blocks(self, parameters: Parameters) -> None:
        """Compute this rank's range of blocks; raises InvalidData."""
        rank, size = self._communicator.rank, self._communicator.size
        for block in range(self._blocks * rank // size, self._blocks * (rank + 1) // size):
            self._add_block(parameters, block)

    def _add_block(self, parameters: Parameters, block: int) -> None:
        self._heartbeat.enter(Phase.EVALUATING)
        start = block * self._block_rows
        stop = min(start + self._block_rows, len(self._rows.dataset))
        x, target = self._rows.read(np.arange(start, stop))
        prediction = self._model.forward(parameters, x)
        weight = self._rows.weights(np.arange(start, stop))
        sums = self._sums[block]
        sums[0] = self._model.loss_sum(target, weight)
        sums[1] = self._model.weight_sum(target, weight)
        self._model.metric_sums(prediction, target, weight, sums[2:])
        self._scores.put(slice(start, stop), prediction, target, weight)
        if self._class_counts is not None:
            self._class_counts.add(target, self._model.loss.classes(prediction))


def make_evaluator(
    setup: Setup, dataset: Dataset | None, communicator: Communicator
) -> Evaluator | None:
    """Return the evaluator of a data set of a run; None if there is no such set."""
    if dataset is None:
        return None
    rows = RowReader(dataset, setup.model, setup.scaling, capacity=BLOCK_ROWS)
    return Evaluator(
        setup.model,
        rows,
        communicator,
        metric_kinds=setup.metric_kinds,
        heartbeat=setup.heartbeat,
    )
