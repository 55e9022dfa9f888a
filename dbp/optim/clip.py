"""Clip the mean gradient by its global norm, independent of threads and shards."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dbp.optim.optimizer import Vector
from dbp.optim.shard import Shard, whole

BLOCK = 8_192  # OpenBLAS shares a dot product among threads above 10,000 elements


def block_squares(vector: Vector, part: slice, shard: Shard) -> npt.NDArray[np.float64]:
    """Return the sum of squares of each block that overlaps ``part`` of the vector.

    Blocks begin at multiples of BLOCK in the whole vector; those of other shards are zero.
    Squares are summed block by block, and the blocks in float64, so that the norm depends only
    on the bits of the vector, not on the number of threads or shards. A float32 block whose
    squares overflow is squared in float64.
    """
    first, last = part.start // BLOCK, -(-part.stop // BLOCK)
    squares = np.zeros(max(0, last - first))
    own = shard.intersect(part)
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
    """Return the Euclidean norm from the squares of all blocks, added in their order."""
    return math.sqrt(sum(squares.tolist()))


def global_norm(gradient: Vector, shard: Shard | None = None) -> float:
    """Return the Euclidean norm of the whole vector. Collective if there are shards."""
    part = slice(0, gradient.size)
    shard = shard or whole(gradient.size)
    squares = block_squares(gradient, part, shard)
    shard.allreduce(squares)
    return norm_of(squares)


def clip_by_global_norm(gradient: Vector, limit: float, shard: Shard | None = None) -> float:
    """Scale this rank's shard so that the whole gradient's norm is at most ``limit``.

    Returns the norm before clipping. Pascanu, Mikolov and Bengio, "On the difficulty of
    training recurrent neural networks", 2013; the 1e-6 is PyTorch's. Collective if there are
    shards.
    """
    norm = global_norm(gradient, shard)
    factor = limit / (norm + 1e-6)
    if factor < 1:
        gradient[slice(None) if shard is None else shard.own] *= factor
    return norm
