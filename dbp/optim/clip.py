"""Clipping by the global norm: after the sum over ranks, once, on the mean gradient."""

from __future__ import annotations

import math

import numpy as np

from dbp.optim.optimizer import Vector

BLOCK = 8_192  # OpenBLAS shares a dot product among threads above 10,000 elements


def global_norm(gradient: Vector) -> float:
    """Euclidean norm of the whole vector.

    Squares are summed block by block in a fixed order, and the blocks in float64, so that
    the figure depends on the vector's bits alone, and not on how many threads a rank has.
    A block of float32 whose squares overflow is squared in float64.
    """
    total = 0.0
    with np.errstate(over="ignore"):
        for start in range(0, gradient.size, BLOCK):
            block = gradient[start : start + BLOCK]
            squares = float(np.dot(block, block))
            if math.isinf(squares):
                wide = block.astype(np.float64)
                squares = float(np.dot(wide, wide))
            total += squares
    return math.sqrt(total)


def clip_by_global_norm(gradient: Vector, limit: float) -> float:
    """Scale the gradient in place to at most this norm; returns the norm it had.

    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks",
    2013. The 1e-6 is PyTorch's.
    """
    norm = global_norm(gradient)
    factor = limit / (norm + 1e-6)
    if factor < 1:
        gradient *= factor
    return norm
