"""The embedding layer: a learned vector for each whole number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np

from dbp.nn.initializer import Initializer, Normal
from dbp.nn.layer import Array, Backward, Layer, Shape, Views, Workspace
from dbp.registry import option

BLOCK: Final = 65_536  # elements of the gradient added at once


@final
@dataclass(frozen=True)
class Embedding(Layer):
    """y = weight[x]: every input, a whole number in 0 .. count - 1, becomes a row of weight.

    Any other input gives NaN; the step then fails on all ranks, naming the sample's index. The
    input has no gradient, so this must be the first layer, and its data must not be scaled.
    """

    count: int = option(
        doc="number of different inputs; float32 represents no more exactly",
        minimum=1,
        maximum=2**24,
    )
    dimension: int = option(doc="length of each vector", minimum=1)
    weight_initializer: Initializer = option(
        Normal(deviation=1.0), doc="initial values of the weight", group="initializers"
    )

    def ids(self) -> int:
        return self.count

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, self.dimension)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {"weight": (self.count, self.dimension)}

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        self.weight_initializer.fill(parameters["weight"], rng)

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
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
            self._scatter(rows.reshape(-1), dy.reshape(-1), gradients["weight"], workspace)
            if not workspace.needs_input_gradient:
                return None
            dx = workspace.array("dx", x.shape)
            dx.fill(0.0)
            return dx

        return y, backward

    def _scatter(self, rows: Array, dy: Array, gradient: Array, workspace: Workspace) -> None:
        """Add each vector of dy to its row of the gradient, in the order of the samples.

        ``add.at`` is several times faster on flat indices, which are computed in blocks.
        """
        gradient.fill(0.0)
        flat = gradient.reshape(-1)
        block = max(1, BLOCK // self.dimension)
        within_row = np.arange(self.dimension)
        for start in range(0, len(rows), block):
            own = rows[start : start + block]
            places = workspace.array("places", (len(own), self.dimension), np.int64)
            np.multiply(own[:, None], self.dimension, out=places)
            places += within_row
            first = start * self.dimension
            np.add.at(flat, places.reshape(-1), dy[first : first + places.size])
