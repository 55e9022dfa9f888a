"""The sigmoid linear unit (swish)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.elementwise import Elementwise
from dbp.nn.layer import Array, Backward, Views, Workspace


@final
@dataclass(frozen=True)
class SiLU(Elementwise):
    """y = x sigmoid(x).

    Elfwing, Uchibe and Doya, "Sigmoid-Weighted Linear Units", 2018.
    """

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        """See Layer."""
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
