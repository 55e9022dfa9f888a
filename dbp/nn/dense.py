"""The dense (fully connected, affine) layer, forward and backward."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.initializer import HeUniform, Initializer, Zeros
from dbp.nn.layer import Array, Backward, Layer, Shape, Views, Workspace
from dbp.registry import option


@final
@dataclass(frozen=True)
class Dense(Layer):
    """y = x W^T + b; samples of more than one dimension are flattened first.

    x: (batch, in), weight: (units, in), bias: (units,), y: (batch, units). By the chain rule
    dW = dy^T x, db = sum of dy over the batch, dx = dy W.

    ``activation = "relu"`` beside the options adds that layer after this one, as for any layer.
    """

    units: int = option(doc="number of outputs", minimum=1)
    bias: bool = option(True, doc="whether to add a bias")
    weight_initializer: Initializer = option(
        HeUniform(), doc="initial values of the weight", group="initializers"
    )
    bias_initializer: Initializer = option(
        Zeros(), doc="initial values of the bias", group="initializers"
    )

    def output_shape(self, input_shape: Shape) -> Shape:
        if math.prod(input_shape) < 1:
            raise ValueError(f"needs at least one input, got shape {input_shape}")
        return (self.units,)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"weight": (self.units, math.prod(input_shape))}
        if self.bias:
            shapes["bias"] = (self.units,)
        return shapes

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        self.weight_initializer.fill(parameters["weight"], rng)
        if self.bias:
            self.bias_initializer.fill(parameters["bias"], rng)

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        weight = parameters["weight"]
        rows = x.reshape(len(x), math.prod(x.shape[1:]))  # -1 fails on an empty batch
        y = workspace.array("y", (len(x), self.units))
        np.matmul(rows, weight.T, out=y)
        if self.bias:
            y += parameters["bias"]

        def backward(dy: Array, gradients: Views) -> Array | None:
            np.matmul(dy.T, rows, out=gradients["weight"])
            if self.bias:
                np.sum(dy, axis=0, out=gradients["bias"])
            if not workspace.needs_input_gradient:
                return None
            dx = workspace.array("dx", rows.shape)
            np.matmul(dy, weight, out=dx)
            return dx.reshape(x.shape)

        return y, backward
