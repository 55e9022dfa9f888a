"""The NAdam optimizer: Adam with Nesterov momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.optim.optimizer import Optimizer, Vector
from dbp.registry import option

_products: dict[tuple[float, float], list[float]] = {}  # cache of a pure function


@final
@dataclass(frozen=True)
class NAdam(Optimizer):
    """Adam whose step looks ahead along the mean of the gradients; weight decay is L2.

    Dozat, "Incorporating Nesterov Momentum into Adam", 2016, in PyTorch's form, with the
    momentum b1 (1 - 0.96^(step momentum_decay) / 2) at each step.
    """

    beta1: float = option(0.9, doc="decay of the mean of gradients", minimum=0.0, below=1.0)
    beta2: float = option(0.999, doc="decay of the mean of squares", minimum=0.0, below=1.0)
    epsilon: float = option(1e-8, doc="added to the square root in the divisor", above=0.0)
    momentum_decay: float = option(0.004, doc="speed at which the momentum rises", minimum=0.0)

    def slot_names(self) -> tuple[str, ...]:
        return ("m", "v")

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
        product = self._product(step)
        ahead = self._momentum(step + 1)
        gradient *= learning_rate * (1 - self._momentum(step)) / (1 - product)
        np.multiply(m, learning_rate * ahead / (1 - product * ahead), out=second)
        gradient += second
        gradient /= first
        parameters -= gradient

    def _momentum(self, step: int) -> float:
        return float(self.beta1 * (1 - 0.5 * 0.96 ** (step * self.momentum_decay)))

    def _product(self, step: int) -> float:
        """Return the product of the momenta of all steps up to this one."""
        known = _products.setdefault((self.beta1, self.momentum_decay), [1.0])
        while len(known) <= step:
            known.append(known[-1] * self._momentum(len(known)))
        return known[step]
