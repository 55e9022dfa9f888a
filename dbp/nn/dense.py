"""The dense (fully connected, affine) layer, forward and backward."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.initializer import HeUniform, Initializer, Zeros
from dbp.nn.joint_layer import JointBackward, JointLayer, LaneGradients
from dbp.nn.layer import Array, Shape, Views, Workspace
from dbp.nn.row_product import RowProduct
from dbp.registry import option


@final
@dataclass(frozen=True)
class Dense(JointLayer):
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

    def row_products(self, input_shape: Shape) -> Mapping[str, RowProduct]:
        inputs = math.prod(input_shape)
        return {
            "y": RowProduct(inputs, self.units, transposed=True),
            "dx": RowProduct(self.units, inputs, for_dx=True),
        }

    def forward_joint(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, JointBackward]:
        weight = parameters["weight"]
        rows = x.reshape(len(x), math.prod(x.shape[1:]))  # -1 fails on an empty batch
        y = workspace.array("y", (len(x), self.units))
        workspace.multiply_rows("y", rows, weight.T, y)
        if self.bias:
            y += parameters["bias"]

        def backward(dy: Array, gradients: LaneGradients) -> Array | None:
            for lane, own in gradients.of_lanes("weight"):
                np.matmul(dy[lane].T, rows[lane], out=own)
            if self.bias:
                for lane, own in gradients.of_lanes("bias"):
                    np.add.reduce(dy[lane], axis=0, out=own)
            if not workspace.needs_input_gradient:
                return None
            dx = workspace.array("dx", rows.shape)
            workspace.multiply_rows("dx", dy, weight, dx)
            return dx.reshape(x.shape)

        return y, backward
