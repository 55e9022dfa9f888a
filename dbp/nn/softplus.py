"""The softplus layer, a smooth ReLU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.elementwise import Pointwise
from dbp.nn.layer import Array, Backward, Range, Views, Workspace


@final
@dataclass(frozen=True)
class Softplus(Pointwise):
    """y = log(1 + exp(x)), without overflow for any x.

    Glorot, Bordes and Bengio, "Deep Sparse Rectifier Neural Networks", 2011.
    """

    def output_range(self, input_range: Range) -> Range:
        low, high = np.logaddexp(input_range, 0.0)
        return float(low), float(high)

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        y = workspace.array("y", x.shape)
        np.logaddexp(x, 0, out=y)

        def backward(dy: Array, gradients: Views) -> Array:
            slope = workspace.array("slope", x.shape)
            np.multiply(x, 0.5, out=slope)
            np.tanh(slope, out=slope)
            slope += 1
            slope *= 0.5
            dy *= slope
            return dy

        return y, backward
