"""The layer that flattens each sample to a vector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Backward, Layer, Range, Shape, Views, Workspace
from dbp.nn.row_product import RowProduct


@final
@dataclass(frozen=True)
class Flatten(Layer):
    """Reshape every sample to a vector, in C order (the last axis varies fastest)."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {}

    def row_products(self, input_shape: Shape) -> Mapping[str, RowProduct]:
        return {}

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        pass

    def output_range(self, input_range: Range) -> Range:
        return input_range

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        y = x.reshape(len(x), math.prod(x.shape[1:]))
        return y, lambda dy, _: dy.reshape(x.shape)
