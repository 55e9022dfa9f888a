"""Adagrad, an optimizer with a learning rate for each parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.optim.optimizer import Optimizer, Vector
from dbp.registry import option


@final
@dataclass(frozen=True)
class Adagrad(Optimizer):
    """s <- s + g^2; p <- p - learning_rate g / (sqrt(s) + epsilon); weight decay is L2.

    Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization", 2011, in PyTorch's form.
    """

    rate_decay: float = option(
        0.0, doc="divides the learning rate by 1 + (step - 1) rate_decay", minimum=0.0
    )
    epsilon: float = option(1e-10, doc="added to the square root in the divisor", above=0.0)

    def slot_names(self) -> tuple[str, ...]:
        return ("sum",)

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
        total, root = slots["sum"], scratch[0]
        np.multiply(gradient, gradient, out=root)
        total += root
        np.sqrt(total, out=root)
        root += self.epsilon
        gradient /= root
        gradient *= learning_rate / (1 + (step - 1) * self.rate_decay)
        parameters -= gradient
