"""Functions of losses that average over the output features of a sample."""

from __future__ import annotations

import math

from dbp.nn.layer import Array, Shape


def check_not_empty(kind: str, output_shape: Shape) -> None:
    """Raise ValueError, naming the loss ``kind``, for an output without elements."""
    if math.prod(output_shape) < 1:
        raise ValueError(f"{kind} needs an output, got shape {output_shape}")


def sum_of_rows(losses: Array, weight: Array | None) -> float:
    """Return the weighted sum over samples of the mean over features; losses: (batch, ...)."""
    features = math.prod(losses.shape[1:])
    if weight is None:
        return float(losses.sum()) / features
    rows = losses.reshape(len(losses), features).sum(axis=1)
    return float(rows @ weight) / features


def weigh(slopes: Array, weight: Array | None) -> Array:
    """Turn the slope of each feature's loss into the gradient of ``sum_of_rows``, in place."""
    slopes /= math.prod(slopes.shape[1:])
    if weight is not None:
        slopes *= weight.reshape(-1, *(1,) * (slopes.ndim - 1))
    return slopes
