"""Softmax as a layer, for models whose loss does not hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.elementwise import Elementwise
from dbp.nn.layer import Array, Backward, Views, Workspace


@final
@dataclass(frozen=True)
class Softmax(Elementwise):
    """y = exp(x) / sum(exp(x)) over the last axis.

    The loss softmax_cross_entropy wants the layer before this one: it holds a softmax.
    """

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        """See Layer."""
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
