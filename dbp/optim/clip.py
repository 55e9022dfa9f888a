"""Clipping by the global norm: after the sum over ranks, once, on the mean gradient."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dbp.optim.optimizer import Vector
from dbp.optim.shard import Shard, whole

BLOCK = 8_192  # OpenBLAS shares a dot product among threads above 10,000 elements


def block_squares(vector: Vector, part: slice, shard: Shard) -> npt.NDArray[np.float64]:
    """The sum of squares of each block that a part of the vector touches.

    Blocks begin at multiples of BLOCK in the whole vector; those of other shards are zero.
    Squares are summed block by block and the blocks in float64, so that a norm depends on the
    vector's bits alone, and not on how many threads or shards there are. A block of float32
    whose squares overflow is squared in float64.
    """
    first, last = part.start // BLOCK, -(-part.stop // BLOCK)
    squares = np.zeros(max(0, last - first))
    own = shard.of(part)
    with np.errstate(over="ignore"):
        for index in range(own.start // BLOCK, -(-own.stop // BLOCK)):
            block = vector[max(own.start, index * BLOCK) : min(own.stop, (index + 1) * BLOCK)]
            square = float(np.dot(block, block))
            if math.isinf(square):
                wide = block.astype(np.float64)
                square = float(np.dot(wide, wide))
            squares[index - first] = square
    return squares


def norm_of(squares: npt.NDArray[np.float64]) -> float:
    """The Euclidean norm, from the squares of all blocks; added in their order."""
    return math.sqrt(sum(squares.tolist()))


def global_norm(gradient: Vector, shard: Shard | None = None) -> float:
    """Euclidean norm of the whole vector. Collective where there are shards."""
    part = slice(0, gradient.size)
    shard = shard or whole(gradient.size)
    squares = block_squares(gradient, part, shard)
    shard.add_up(squares)
    return norm_of(squares)


def clip_by_global_norm(gradient: Vector, limit: float, shard: Shard | None = None) -> float:
    """Scale the own part of the gradient to at most this norm of the whole; returns the norm.

    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks",
    2013. The 1e-6 is PyTorch's. Collective where there are shards.
    """
    norm = global_norm(gradient, shard)
    factor = limit / (norm + 1e-6)
    if factor < 1:
        gradient[slice(None) if shard is None else shard.own] *= factor
    return norm
