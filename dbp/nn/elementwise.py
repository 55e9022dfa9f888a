"""The base classes of elementwise activation layers."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping

import numpy as np

from dbp.nn.layer import Layer, Shape, Views
from dbp.nn.row_product import RowProduct


class Elementwise(Layer, ABC):
    """A layer without parameters whose output has the input's shape."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {}

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        pass


class Pointwise(Elementwise, ABC):
    """An elementwise layer that can compute the rows of several lanes in one call."""

    def row_products(self, input_shape: Shape) -> Mapping[str, RowProduct]:
        return {}
