"""The sigmoid (logistic function) layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.elementwise import Pointwise
from dbp.nn.layer import Array, Backward, Range, Views, Workspace


@final
@dataclass(frozen=True)
class Sigmoid(Pointwise):
    """y = 1 / (1 + exp(-x)), dx = dy y (1 - y)."""

    def output_range(self, input_range: Range) -> Range:
        return 0.0, 1.0

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        y = workspace.array("y", x.shape)
        np.multiply(x, 0.5, out=y)
        np.tanh(y, out=y)  # (1 + tanh(x/2)) / 2 is the same and never overflows
        y += 1
        y *= 0.5

        def backward(dy: Array, gradients: Views) -> Array:
            slope = workspace.array("slope", x.shape)
            np.subtract(1, y, out=slope)
            slope *= y
            dy *= slope
            return dy

        return y, backward
