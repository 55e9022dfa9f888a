"""ELU, the exponential linear unit, and functions that SELU shares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.elementwise import Pointwise
from dbp.nn.layer import Array, Backward, Range, Views, Workspace
from dbp.registry import option


def exponential_linear(
    x: Array, workspace: Workspace, *, alpha: float, scale: float
) -> tuple[Array, Backward]:
    """Return y = scale x where x > 0, else scale alpha (exp(x) - 1), and its backward."""
    y = workspace.array("y", x.shape)
    slope = workspace.array("slope", x.shape)
    np.minimum(x, 0, out=slope)
    np.expm1(slope, out=y)
    y *= scale * alpha
    np.add(y, scale * alpha, out=slope)
    positive = workspace.array("positive", x.shape, bool)
    np.greater(x, 0, out=positive)
    np.multiply(x, scale, out=y, where=positive)
    np.copyto(slope, scale, where=positive)

    def backward(dy: Array, gradients: Views) -> Array:
        dy *= slope
        return dy

    return y, backward


def exponential_range(input_range: Range, *, alpha: float, scale: float) -> Range:
    """Return bounds of ``exponential_linear``, which is monotonic."""
    low, high = (
        scale * (value if value > 0 else alpha * math.expm1(value)) for value in input_range
    )
    return low, high


@final
@dataclass(frozen=True)
class ELU(Pointwise):
    """y = x where x > 0, else alpha (exp(x) - 1).

    Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by
    Exponential Linear Units", 2016.
    """

    alpha: float = option(
        1.0, doc="the outputs approach -alpha for large negative inputs", above=0.0
    )

    def output_range(self, input_range: Range) -> Range:
        return exponential_range(input_range, alpha=self.alpha, scale=1.0)

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        return exponential_linear(x, workspace, alpha=self.alpha, scale=1.0)
