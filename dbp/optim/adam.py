"""The Adam optimizer, with L2 weight decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from dbp.optim.adam_kernel import adam_kernel, update_adam
from dbp.optim.adam_rule import AdamRates
from dbp.optim.optimizer import Optimizer, Vector
from dbp.registry import option


@final
@dataclass(frozen=True)
class Adam(Optimizer):
    """p <- p - learning_rate m^ / (sqrt(v^) + epsilon), with running means of g and g^2.

    m <- beta1 m + (1 - beta1) g, v <- beta2 v + (1 - beta2) g^2, and in step t
    m^ = m / (1 - beta1^t), v^ = v / (1 - beta2^t); weight decay adds
    ``weight_decay * p`` to g (L2). Kingma and Ba, "Adam: A Method for Stochastic
    Optimization", 2015.
    """

    beta1: float = option(0.9, doc="decay of the mean of gradients", minimum=0.0, below=1.0)
    beta2: float = option(0.999, doc="decay of the mean of squares", minimum=0.0, below=1.0)
    epsilon: float = option(1e-8, doc="added to the square root in the divisor", above=0.0)

    def slot_names(self) -> tuple[str, ...]:
        return ("m", "v")

    def passes_once(self, dtype: np.dtype[Any]) -> bool:
        return adam_kernel(dtype) is not None and not self.weight_decay

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
        rates = AdamRates(step, learning_rate, self.beta1, self.beta2, self.epsilon)
        update_adam(parameters, gradient, slots, scratch, rates)
