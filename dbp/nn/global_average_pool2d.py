"""Global average pooling: the mean of each channel of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Backward, Layer, Range, Shape, Views, Workspace


@final
@dataclass(frozen=True)
class GlobalAveragePool2D(Layer):
    """The mean of every channel: (batch, channels, height, width) to (batch, channels).

    Lin, Chen and Yan, "Network In Network", 2014.
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3 or min(input_shape) < 1:
            raise ValueError(
                f"needs samples of shape (channels, height, width), got {input_shape}"
            )
        return input_shape[:1]

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {}

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        pass

    def output_range(self, input_range: Range) -> Range:
        return input_range

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        y = workspace.array("y", x.shape[:2])
        np.mean(x, axis=(2, 3), out=y)

        def backward(dy: Array, gradients: Views) -> Array:
            dx = workspace.array("dx", x.shape)
            dy /= x.shape[2] * x.shape[3]
            np.copyto(dx, dy[:, :, None, None])
            return dx

        return y, backward
