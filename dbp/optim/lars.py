"""The LARS optimizer: momentum with a learning rate for each tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.optim.layerwise import LayerwiseOptimizer, Vector
from dbp.registry import option


@final
@dataclass(frozen=True)
class LARS(LayerwiseOptimizer):
    """v <- momentum v + rate (g + weight_decay p); p <- p - v, for weights with

    rate = learning_rate trust |p| / (|g| + weight_decay |p|), with norms of a whole tensor.
    You, Gitman and Ginsburg, "Large Batch Training of Convolutional Networks", 2017,
    algorithm 1.
    """

    momentum: float = option(
        0.9, doc="share of the velocity that is kept", minimum=0.0, below=1.0
    )
    trust: float = option(
        0.001,
        doc="trust coefficient: length of a step, as a share of the weight's norm",
        above=0.0,
    )

    def slot_names(self) -> tuple[str, ...]:
        return ("velocity",)

    def ratio(self, parameter_norm: float, direction_norm: float, weight_decay: float) -> float:
        divisor = direction_norm + weight_decay * parameter_norm
        return self.trust * parameter_norm / divisor if parameter_norm and divisor else 1.0

    def update(
        self,
        parameters: Vector,
        gradient: Vector,
        slots: dict[str, Vector],
        scratch: tuple[Vector, Vector],
        *,
        step: int,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        if weight_decay:
            np.multiply(parameters, weight_decay, out=scratch[0])
            gradient += scratch[0]
        velocity = slots["velocity"]
        velocity *= self.momentum
        gradient *= learning_rate
        velocity += gradient
        parameters -= velocity
