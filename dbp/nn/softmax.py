"""Softmax as a layer, for losses that do not apply the softmax themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.elementwise import Pointwise
from dbp.nn.layer import Array, Backward, Range, Shape, Views, Workspace


@final
@dataclass(frozen=True)
class Softmax(Pointwise):
    """y = exp(x) / sum(exp(x)) over the last axis.

    Do not use it before softmax_cross_entropy, which applies the softmax itself.
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape or input_shape[-1] < 2:
            raise ValueError(
                f"needs at least 2 inputs along the last axis, got shape {input_shape}: the "
                "softmax of a single number is always 1; sigmoid gives a probability from one"
            )
        return input_shape

    def output_range(self, input_range: Range) -> Range:
        return 0.0, 1.0

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        y = workspace.array("y", x.shape)
        np.subtract(x, x.max(axis=-1, keepdims=True, initial=-np.inf), out=y)
        np.exp(y, out=y)
        y /= y.sum(axis=-1, keepdims=True)

        def backward(dy: Array, gradients: Views) -> Array:
            product = workspace.array("product", x.shape)
            np.multiply(dy, y, out=product)
            dy -= product.sum(axis=-1, keepdims=True)
            dy *= y
            return dy

        return y, backward
