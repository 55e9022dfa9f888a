"""The identity: what goes in comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Backward, Layer, Shape, Views, Workspace


@final
@dataclass(frozen=True)
class Identity(Layer):
    """y = x, dx = dy."""

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
        return x, lambda dy, gradients: dy
