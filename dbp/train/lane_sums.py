"""The lanes that a step computes in one pass: their batch, gradients and sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from dbp.nn.joint_layer import JointGradients
from dbp.nn.lane_batch import LaneBatch
from dbp.nn.layer import Array
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.parallel.step_buffer import StepBuffer
from dbp.train.faults.finite import all_finite

Sums = Sequence[tuple[float, float]]
"""For each lane, the sums of its losses and of its weights."""


@final
@dataclass(slots=True)
class Lane:
    """A lane batch to compute, and the memory for its gradients and sums.

    Attributes:
        batch: The samples.
        gradients: Takes the gradient of the sum over the samples.
        buffer: The lane's buffer of the exchange.
        on_ready: See ``ModelBackward``.
    """

    batch: LaneBatch
    gradients: Parameters
    buffer: StepBuffer
    on_ready: Callable[[int], None] | None = None

    def add(self, model: Model, outputs: Array, sums: Sums) -> None:
        """Add the results to the buffer: the sums, and the gradients of later parts."""
        batch, buffer = self.batch, self.buffer
        if self.gradients.vector is not buffer.gradients:
            buffer.gradients += self.gradients.vector
        for loss, weight in sums:
            buffer.loss += loss
            buffer.weight += weight
            state = batch.new_state
            if not (math.isfinite(loss) and (state is None or all_finite(state.vector))):
                buffer.non_finite = 1.0
        model.metric_sums(outputs, batch.target, batch.weight, buffer.metrics)


@final
@dataclass(slots=True)
class JointLanes:
    """All lanes of a rank as one batch, and the memory for their gradients and sums.

    Attributes:
        batch: The samples of all lanes.
        gradients: Takes the gradients of each lane.
        buffers: One buffer a lane, for the sums after the gradients.
        on_ready: See ``ModelBackward``.
    """

    batch: LaneBatch
    gradients: JointGradients
    buffers: Sequence[StepBuffer]
    on_ready: Callable[[int], None] | None = None

    def add(self, model: Model, outputs: Array, sums: Sums) -> None:
        """Add the results to the lanes' buffers."""
        batch = self.batch
        for lane, buffer, (loss, weight) in zip(batch.lanes, self.buffers, sums, strict=True):
            buffer.loss = loss
            buffer.weight = weight
            if not math.isfinite(loss):
                buffer.non_finite = 1.0
            own_weight = None if batch.weight is None else batch.weight[lane]
            model.metric_sums(outputs[lane], batch.target[lane], own_weight, buffer.metrics)
