"""SiLU, the sigmoid linear unit (swish)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np

from dbp.nn.elementwise import Pointwise
from dbp.nn.layer import Array, Backward, Range, Views, Workspace

LOWEST: Final = -0.27846454276107379  # its minimum, at x = -1.2785


@final
@dataclass(frozen=True)
class SiLU(Pointwise):
    """y = x sigmoid(x), also called swish.

    Elfwing, Uchibe and Doya, "Sigmoid-Weighted Linear Units", 2018.
    """

    def output_range(self, input_range: Range) -> Range:
        return (LOWEST if input_range[0] < 0 else 0.0), max(input_range[1], 0.0)

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        sigmoid = workspace.array("sigmoid", x.shape)
        np.multiply(x, 0.5, out=sigmoid)
        np.tanh(sigmoid, out=sigmoid)
        sigmoid += 1
        sigmoid *= 0.5
        y = workspace.array("y", x.shape)
        np.multiply(x, sigmoid, out=y)

        def backward(dy: Array, gradients: Views) -> Array:
            slope = workspace.array("slope", x.shape)  # s + y (1 - s)
            np.subtract(1, sigmoid, out=slope)
            slope *= y
            slope += sigmoid
            dy *= slope
            return dy

        return y, backward
