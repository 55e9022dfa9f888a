"""A layer with a parameter: the softsign, each feature with a gain of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.plugin import Array, Backward, Layer, Shape, Views, Workspace, option


@final
@dataclass(frozen=True)
class SoftsignGain(Layer):
    """y = g x / (1 + |x|) with a learned gain g per feature.

    The softsign is that of Bergstra et al., "Quadratic polynomials learn better image
    features", 2009.
    """

    gain: float = option(1.0, doc="gain of every feature before training", above=0.0)

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's shape."""
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """One gain per feature."""
        return {"gain": input_shape}

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        """Every gain as the option says; nothing is drawn."""
        parameters["gain"][...] = self.gain

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        """See Layer; dx = dy g / (1 + |x|)^2."""
        scale = workspace.array("scale", x.shape)
        np.abs(x, out=scale)
        scale += 1
        np.reciprocal(scale, out=scale)
        softsign = workspace.array("softsign", x.shape)
        np.multiply(x, scale, out=softsign)
        y = workspace.array("y", x.shape)
        np.multiply(softsign, parameters["gain"], out=y)

        def backward(dy: Array, gradients: Views) -> Array:
            softsign_dy = workspace.array("softsign_dy", x.shape)
            np.multiply(softsign, dy, out=softsign_dy)
            np.sum(softsign_dy, axis=0, out=gradients["gain"])
            dy *= parameters["gain"]
            dy *= scale
            dy *= scale
            return dy

        return y, backward
