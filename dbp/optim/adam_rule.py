"""The update rule that Adam and AdamW share; they differ in weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.optim.optimizer import Vector


@final
@dataclass(frozen=True)
class AdamRates:
    """The numbers of the rule in one update; ``step`` counts from 1."""

    step: int
    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float

    @property
    def root_scale(self) -> float:
        """Factor of sqrt(v) that makes it sqrt(v^)."""
        return 1 / math.sqrt(1 - self.beta2**self.step)

    @property
    def rate(self) -> float:
        """Learning rate with the factor that makes m m^."""
        return self.learning_rate / (1 - self.beta1**self.step)


def adam_rule(
    parameters: Vector,
    gradient: Vector,
    slots: dict[str, Vector],
    scratch: tuple[Vector, Vector],
    rates: AdamRates,
) -> None:
    """m <- b1 m + (1-b1) g; v <- b2 v + (1-b2) g^2; p <- p - lr m^ / (sqrt(v^) + epsilon).

    m^ = m / (1 - b1^step) and v^ = v / (1 - b2^step): Kingma and Ba, "Adam: A Method for
    Stochastic Optimization", 2015, algorithm 1, in PyTorch's order of operations.
    """
    m, v = slots["m"], slots["v"]
    first, second = scratch
    m *= rates.beta1
    np.multiply(gradient, 1 - rates.beta1, out=first)
    m += first
    v *= rates.beta2
    np.multiply(gradient, gradient, out=first)
    first *= 1 - rates.beta2
    v += first
    np.sqrt(v, out=first)
    first *= rates.root_scale
    first += rates.epsilon
    np.divide(m, first, out=second)
    second *= rates.rate
    parameters -= second
