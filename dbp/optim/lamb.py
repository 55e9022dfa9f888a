"""The LAMB optimizer: Adam with a learning rate for each tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.optim.layerwise import LayerwiseOptimizer, Vector
from dbp.registry import option


@final
@dataclass(frozen=True)
class LAMB(LayerwiseOptimizer):
    """r = m^ / (sqrt(v^) + epsilon) + weight_decay p; p <- p - learning_rate |p| / |r| r.

    m^ and v^ are those of Adam; |p| and |r| are norms of a whole weight tensor.

    You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
    2020, algorithm 2.
    """

    beta1: float = option(0.9, doc="decay of the mean of gradients", minimum=0.0, below=1.0)
    beta2: float = option(0.999, doc="decay of the mean of squares", minimum=0.0, below=1.0)
    epsilon: float = option(1e-6, doc="added to the square root in the divisor", above=0.0)

    def slot_names(self) -> tuple[str, ...]:
        return ("m", "v")

    def direct(
        self,
        parameters: Vector,
        gradient: Vector,
        slots: dict[str, Vector],
        scratch: tuple[Vector, Vector],
        *,
        step: int,
        weight_decay: float,
    ) -> None:
        m, v = slots["m"], slots["v"]
        first, second = scratch
        m *= self.beta1
        np.multiply(gradient, 1 - self.beta1, out=first)
        m += first
        v *= self.beta2
        np.multiply(gradient, gradient, out=first)
        first *= 1 - self.beta2
        v += first
        np.multiply(v, 1 / (1 - self.beta2**step), out=first)
        np.sqrt(first, out=first)
        first += self.epsilon
        np.multiply(m, 1 / (1 - self.beta1**step), out=gradient)
        gradient /= first
        if weight_decay:
            np.multiply(parameters, weight_decay, out=second)
            gradient += second

    def ratio(self, parameter_norm: float, direction_norm: float, weight_decay: float) -> float:
        both = parameter_norm and direction_norm
        return parameter_norm / direction_norm if both else 1.0

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
        """Step along the direction, which ``gradient`` holds here."""
        gradient *= learning_rate
        parameters -= gradient
