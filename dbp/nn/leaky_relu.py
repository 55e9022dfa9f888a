"""Leaky ReLU, the leaky rectified linear unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.elementwise import Pointwise
from dbp.nn.layer import Array, Backward, Range, Views, Workspace
from dbp.registry import option


@final
@dataclass(frozen=True)
class LeakyReLU(Pointwise):
    """y = x where x > 0, else slope x.

    Maas, Hannun and Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models",
    2013.
    """

    slope: float = option(0.01, doc="slope of the negative part", minimum=0.0)

    def output_range(self, input_range: Range) -> Range:
        low, high = (
            value if value > 0 else value * self.slope if self.slope else 0.0
            for value in input_range
        )
        return low, high

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        factor = workspace.array("factor", x.shape)
        mask = workspace.array("mask", x.shape, bool)
        np.greater(x, 0, out=mask)
        factor.fill(self.slope)
        np.copyto(factor, 1.0, where=mask)
        y = workspace.array("y", x.shape)
        np.multiply(x, factor, out=y)

        def backward(dy: Array, gradients: Views) -> Array:
            dy *= factor
            return dy

        return y, backward
