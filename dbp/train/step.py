"""One synchronized update: forward, loss, backward, one exchange, divide once, clip, update.

Gradients are those of the *sum* over samples until the one division by the global weight,
so uneven and empty shards are exact. No rank ever decides alone: what could differ from rank
to rank (a stop request, a loss that is not finite) travels in the exchange, and everything
after it is computed from the same bits on every rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.data.dataset import Indices
from dbp.errors import InvalidData
from dbp.nn.layer import Array
from dbp.nn.parameters import Parameters, is_bias
from dbp.optim.apply import Updater
from dbp.optim.clip import clip_by_global_norm
from dbp.parallel.communicator import Communicator
from dbp.parallel.exchange import make_exchange
from dbp.parallel.step_buffer import StepBuffer
from dbp.train.agreement import all_or_none
from dbp.train.build import Setup
from dbp.train.rows import RowReader
from dbp.train.sink import Command


@dataclass(frozen=True)
class StepResult:
    """Sums over the whole mini-batch, the same on every rank.

    ``metric_sums`` is live until the next step. ``failure`` says why nothing was applied.
    """

    loss_sum: float
    weight: float
    metric_sums: Array
    learning_rate: float = 0.0
    stop: bool = False
    failure: str = ""


@final
class Step:
    """Everything that one update needs, planned once."""

    def __init__(
        self, setup: Setup, parameters: Parameters, communicator: Communicator
    ) -> None:
        train = setup.resolved.spec.train
        self._model = setup.model
        self._parameters = parameters
        self._communicator = communicator
        self._clip_norm = train.clip_norm
        self._total_steps = setup.plan.total_steps
        self._exchange = make_exchange(
            communicator,
            len(parameters),
            sum(setup.model.metric_sizes),
            dtype=setup.model.dtype,
            numerics=train.numerics,
            lanes=train.lanes,
        )
        pieces = train.lanes if train.numerics == "exact" else communicator.size
        largest = -(-train.batch_size // pieces)
        self._rows = RowReader(setup.train, setup.model, setup.scaling, capacity=largest)
        biases = [name for name in parameters.shapes if is_bias(name)]
        self._updater = Updater(
            setup.resolved.optimizer, parameters.slices, biases, dtype=setup.model.dtype
        )
        self._gradients: dict[int, tuple[StepBuffer, Parameters]] = {}

    def run(self, step: int, indices: Indices, command: Command) -> StepResult:
        """Update the parameters with the mini-batch of these samples. Collective.

        ``step`` counts from 1; ``command`` is this rank's wish. A gradient that is not
        finite is never applied: then ``failure`` names step and ranks, on every rank. Raises
        InvalidInput, on every rank alike, where a rank cannot read its samples.
        """
        for piece in self._exchange.pieces(len(indices)):
            try:
                self._differentiate(piece.buffer, indices[piece.start : piece.stop])
            except InvalidData:  # told by all ranks together, after the exchange
                piece.buffer.gradients.fill(0.0)
                piece.buffer.non_finite = 1.0
            piece.buffer.stop = float(Command.STOP in command)
        total = self._exchange.reduce()
        if total.non_finite or not _is_finite(total.gradients):
            failure = self._explain(step, indices)
            return StepResult(total.loss, total.weight, total.metrics, failure=failure)

        total.gradients /= total.weight
        if self._clip_norm is not None:
            clip_by_global_norm(total.gradients, self._clip_norm)
        learning_rate = self._updater.step(
            self._parameters.vector,
            total.gradients,
            step=step,
            total_steps=self._total_steps,
        )
        stop = total.stop > 0
        return StepResult(total.loss, total.weight, total.metrics, learning_rate, stop)

    def _differentiate(self, buffer: StepBuffer, indices: Indices) -> None:
        """Forward, loss and backward of one piece; its sums go into ``buffer``."""
        gradients = self._views(buffer)
        if len(indices) == 0:
            gradients.vector.fill(0.0)
            return
        x, target = self._rows.read(indices)
        buffer.loss = self._model.forward_backward(self._parameters, gradients, x, target)
        buffer.weight = len(indices)
        buffer.non_finite = float(not math.isfinite(buffer.loss))
        self._model.metric_sums(self._model.prediction, target, None, buffer.metrics)

    def _views(self, buffer: StepBuffer) -> Parameters:
        """The named gradients in a buffer; the exchange uses few buffers, again and again."""
        known = self._gradients.get(id(buffer))
        if known is None or known[0] is not buffer:
            known = (buffer, self._parameters.like(buffer.gradients))
            self._gradients[id(buffer)] = known
        return known[1]

    def _explain(self, step: int, indices: Indices) -> str:
        """Which ranks' shares were not finite, by computing them again. Collective.

        Once in a run, so that the regular step need not look at every rank's own gradient.
        """

        def differentiate_again() -> Array:
            bad = np.zeros(1)
            for piece in self._exchange.pieces(len(indices)):
                self._differentiate(piece.buffer, indices[piece.start : piece.stop])
                if piece.buffer.non_finite or not _is_finite(piece.buffer.gradients):
                    bad[0] = 1.0
            return bad

        bad = all_or_none(self._communicator, differentiate_again)
        every = np.empty(self._communicator.size)
        self._communicator.allgather(bad, every)
        ranks = [str(rank) for rank in np.flatnonzero(every)]
        if ranks:
            where = f"on rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks)}"
        else:
            where = "in the sum over the ranks"
        return (
            f"step {step}: the loss or its gradient is not finite {where} (of "
            f"{self._communicator.size}); it was not applied, the parameters are those before "
            "this step. A lower learning rate, train.clip_norm or data.scale may help"
        )


def _is_finite(vector: Array) -> bool:
    """Whether all elements are: their sum is cheap and is not finite if any of them is not."""
    return math.isfinite(float(vector.sum())) or bool(np.isfinite(vector).all())
