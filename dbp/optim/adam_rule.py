"""The update rule that Adam and AdamW share; they differ in weight decay."""

from __future__ import annotations

import math

import numpy as np

from dbp.optim.optimizer import Vector


def adam_rule(
    parameters: Vector,
    gradient: Vector,
    slots: dict[str, Vector],
    scratch: tuple[Vector, Vector],
    *,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> None:
    """m <- b1 m + (1-b1) g; v <- b2 v + (1-b2) g^2; p <- p - lr m^ / (sqrt(v^) + epsilon).

    m^ = m / (1 - b1^step) and v^ = v / (1 - b2^step): Kingma and Ba, "Adam: A Method for
    Stochastic Optimization", 2015, algorithm 1, in PyTorch's order of operations.
    """
    m, v = slots["m"], slots["v"]
    first, second = scratch
    m *= beta1
    np.multiply(gradient, 1 - beta1, out=first)
    m += first
    v *= beta2
    np.multiply(gradient, gradient, out=first)
    first *= 1 - beta2
    v += first
    np.sqrt(v, out=first)
    first *= 1 / math.sqrt(1 - beta2**step)
    first += epsilon
    np.divide(m, first, out=second)
    second *= learning_rate / (1 - beta1**step)
    parameters -= second
