"""The rectified linear unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Backward, Layer, Shape, Views, Workspace


@final
@dataclass(frozen=True)
class ReLU(Layer):
    """y = max(x, 0), dx = dy where x > 0."""

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
        np.maximum(x, 0, out=y)

        def backward(dy: Array, gradients: Views) -> Array:
            mask = workspace.array("mask", x.shape, bool)
            np.greater(y, 0, out=mask)
            dy *= mask
            return dy

        return y, backward
