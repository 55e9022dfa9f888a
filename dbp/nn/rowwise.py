"""What losses of single output features share: the mean over a sample's features."""

from __future__ import annotations

import math

from dbp.nn.layer import Array, Shape


def check_not_empty(kind: str, output_shape: Shape) -> None:
    """Raise ValueError, naming the loss, for an output without elements."""
    if math.prod(output_shape) < 1:
        raise ValueError(f"{kind} needs an output, got shape {output_shape}")


def sum_of_rows(losses: Array, weight: Array | None) -> float:
    """The weighted sum over samples of the mean over features; losses: (batch, ...)."""
    features = math.prod(losses.shape[1:])
    if weight is None:
        return float(losses.sum()) / features
    rows = losses.reshape(len(losses), features).sum(axis=1)
    return float(rows @ weight) / features


def weigh(slopes: Array, weight: Array | None) -> Array:
    """The gradient of ``sum_of_rows`` from each feature's own slope, in place."""
    slopes /= math.prod(slopes.shape[1:])
    if weight is not None:
        slopes *= weight.reshape(-1, *(1,) * (slopes.ndim - 1))
    return slopes
