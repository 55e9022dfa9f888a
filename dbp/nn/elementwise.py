"""The base class of elementwise activation layers."""

from __future__ import annotations

from abc import ABC

import numpy as np

from dbp.nn.layer import Layer, Shape, Views


class Elementwise(Layer, ABC):
    """A layer without parameters whose output has the input's shape."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {}

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        pass
