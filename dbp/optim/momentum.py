"""Gradient descent with momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.optim.optimizer import Optimizer, Vector
from dbp.registry import option


@final
@dataclass(frozen=True)
class Momentum(Optimizer):
    """v <- momentum v + g; p <- p - learning_rate v; weight decay is L2, as in SGD.

    Polyak, "Some methods of speeding up the convergence of iteration methods", 1964; in
    PyTorch's form, where the learning rate is outside the velocity.
    """

    momentum: float = option(
        0.9, doc="share of the velocity that is kept", minimum=0.0, below=1.0
    )

    def slot_names(self) -> tuple[str, ...]:
        return ("velocity",)

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
        velocity += gradient
        np.multiply(velocity, learning_rate, out=scratch[0])
        parameters -= scratch[0]
