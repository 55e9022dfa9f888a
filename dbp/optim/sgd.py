"""Stochastic gradient descent without momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.optim.optimizer import Optimizer, Vector


@final
@dataclass(frozen=True)
class SGD(Optimizer):
    """p <- p - learning_rate * g; weight decay adds ``weight_decay * p`` to g (L2)."""

    def slot_names(self) -> tuple[str, ...]:
        return ()

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
        np.multiply(gradient, learning_rate, out=gradient)
        parameters -= gradient
