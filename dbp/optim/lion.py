"""The Lion optimizer, which uses only the sign of a mean of gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.optim.optimizer import Optimizer, Vector
from dbp.registry import option


@final
@dataclass(frozen=True)
class Lion(Optimizer):
    """p <- p - learning_rate (sign(b1 m + (1-b1) g) + weight_decay p); m <- b2 m + (1-b2) g.

    Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, algorithm 2. Every
    element moves by the learning rate: start with a tenth of the rate for Adam.
    """

    beta1: float = option(
        0.9, doc="weight of the running mean in the step", minimum=0.0, below=1.0
    )
    beta2: float = option(0.99, doc="decay of the mean of gradients", minimum=0.0, below=1.0)

    def slot_names(self) -> tuple[str, ...]:
        return ("m",)

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
        m = slots["m"]
        first, second = scratch
        np.multiply(m, self.beta1, out=first)
        np.multiply(gradient, 1 - self.beta1, out=second)
        first += second
        np.sign(first, out=first)
        if weight_decay:
            parameters *= 1 - learning_rate * weight_decay
        first *= learning_rate
        parameters -= first
        m *= self.beta2
        gradient *= 1 - self.beta2
        m += gradient
