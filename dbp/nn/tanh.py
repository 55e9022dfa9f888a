"""The hyperbolic tangent layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.elementwise import Pointwise
from dbp.nn.layer import Array, Backward, Range, Views, Workspace


@final
@dataclass(frozen=True)
class Tanh(Pointwise):
    """y = tanh(x), dx = dy (1 - y^2)."""

    def output_range(self, input_range: Range) -> Range:
        return -1.0, 1.0

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        y = workspace.array("y", x.shape)
        np.tanh(x, out=y)

        def backward(dy: Array, gradients: Views) -> Array:
            slope = workspace.array("slope", x.shape)
            np.multiply(y, y, out=slope)
            np.subtract(1, slope, out=slope)
            dy *= slope
            return dy

        return y, backward
