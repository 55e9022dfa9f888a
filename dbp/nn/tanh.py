"""The hyperbolic tangent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Backward, Layer, Shape, Views, Workspace


@final
@dataclass(frozen=True)
class Tanh(Layer):
    """y = tanh(x), dx = dy (1 - y^2)."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """None."""
        return {}

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        """Nothing to draw."""

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        """See Layer."""
        y = workspace.array("y", x.shape)
        np.tanh(x, out=y)

        def backward(dy: Array, gradients: Views) -> Array:
            slope = workspace.array("slope", x.shape)
            np.multiply(y, y, out=slope)
            np.subtract(1, slope, out=slope)
            dy *= slope
            return dy

        return y, backward
