"""Vectors in place of whole numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.initializer import Initializer, Normal
from dbp.nn.layer import Array, Backward, Layer, Shape, Views, Workspace
from dbp.registry import option


@final
@dataclass(frozen=True)
class Embedding(Layer):
    """y = weight[x]: every input, a whole number in 0 .. count - 1, becomes a row of weight.

    An input that is none has NaN: the step then fails with the sample's index, on all ranks
    together. The input has no gradient, so this is a first layer; its data are not scaled.
    """

    count: int = option(doc="how many different inputs there are", minimum=1)
    dimension: int = option(doc="outputs for each of them", minimum=1)
    weight_initializer: Initializer = option(
        Normal(deviation=1.0), doc="how the weight starts", group="initializers"
    )

    def ids(self) -> int:
        """See Layer."""
        return self.count

    def output_shape(self, input_shape: Shape) -> Shape:
        """(..., dimension) for an input of shape (...)."""
        return (*input_shape, self.dimension)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """``weight`` (count, dimension)."""
        return {"weight": (self.count, self.dimension)}

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        """Draw the weight."""
        self.weight_initializer.fill(parameters["weight"], rng)

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        """See Layer."""
        y = workspace.array("y", (*x.shape, self.dimension))
        known = workspace.array("known", x.shape, np.bool_)
        np.equal(np.floor(x), x, out=known)
        known &= (x >= 0) & (x < self.count)
        rows = workspace.array("rows", x.shape, np.int64)
        rows.fill(0)
        np.copyto(rows, x, where=known, casting="unsafe")
        np.take(parameters["weight"], rows, axis=0, out=y, mode="clip")
        y[~known] = np.nan

        def backward(dy: Array, gradients: Views) -> Array | None:
            gradients["weight"].fill(0.0)
            # One after the other, in the order of the samples.
            np.add.at(gradients["weight"], rows.reshape(-1), dy.reshape(-1, self.dimension))
            if not workspace.needs_input_gradient:
                return None
            dx = workspace.array("dx", x.shape)
            dx.fill(0.0)
            return dx

        return y, backward
