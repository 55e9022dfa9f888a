"""Run the lanes of a model with batch statistics in lockstep, over all ranks.

Only models with sync points (batch normalization) use it: their lanes exchange statistics
within the forward and the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import numpy as np

from dbp.nn.batch_layer import (
    LaneBackward,
    LaneGenerator,
    backward_of,
    forward_of,
    run_in_lockstep,
)
from dbp.nn.lane_batch import LaneBatch
from dbp.nn.layer import Array, Backward
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import Communicator

LaneSums = tuple[Array, float, float]
"""The outputs of a lane batch, and the sums of its losses and of its weights."""


def train_lanes(
    model: Model,
    parameters: Parameters,
    batches: Sequence[LaneBatch],
    gradients: Sequence[Parameters],
    gather: Callable[[Array], Array] = np.copy,
) -> list[LaneSums]:
    """Run forward, loss and backward of this rank's lane batches; write their gradients.

    ``gather`` returns the statistics of all lanes; see ``run_in_lockstep``.
    """
    lanes = zip(batches, gradients, strict=True)
    return run_in_lockstep([_train_lane(model, parameters, *lane) for lane in lanes], gather)


def _train_lane(
    model: Model, parameters: Parameters, batch: LaneBatch, gradients: Parameters
) -> LaneGenerator[LaneSums]:
    """Run one lane batch as ``Model.forward_training`` does, but yield at sync points."""
    outputs = batch.x
    backwards: list[Backward | LaneBackward] = []
    for layer, own, workspace in model.prepared(parameters, batch):
        outputs, backward = yield from forward_of(layer, own, outputs, workspace)
        backwards.append(backward)
    loss, weight, dy = model.loss_gradient(outputs, batch)
    for position, own in model.backward_order(gradients):
        dy = yield from backward_of(backwards[position], model.checked(dy, position), own)
    return outputs, loss, weight


@final
class Gather:
    """All-gathers rows of statistics, one a lane, in the order of ranks and lanes."""

    def __init__(self, communicator: Communicator, lanes: int) -> None:
        """``lanes`` is the number of this rank's lanes. Collective."""
        self._communicator = communicator
        counts = np.empty(communicator.size, np.int64)
        communicator.allgather(np.array([lanes], np.int64), counts)
        self._longest = int(counts.max())
        self._present = np.arange(self._longest) < counts[:, None]

    def __call__(self, statistics: Array) -> Array:
        """Return the rows of all lanes, (all lanes, size), float64; takes (own lanes, size).

        Collective.
        """
        size = statistics.shape[1]
        own = np.zeros((self._longest, size))
        own[: len(statistics)] = statistics
        every = np.empty((self._communicator.size, self._longest, size))
        self._communicator.allgather(own.reshape(-1), every.reshape(-1))
        present: Array = every[self._present]
        return present
