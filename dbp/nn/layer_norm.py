"""Layer normalization: each sample is normalized by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Backward, Layer, Shape, Views, Workspace
from dbp.nn.role import Role
from dbp.registry import option


@final
@dataclass(frozen=True)
class LayerNorm(Layer):
    """y = (x - mean) / sqrt(variance + epsilon) * weight + bias, for each sample.

    Mean and variance are over all elements of the sample; weight and bias have its shape.
    Ba, Kiros and Hinton, "Layer Normalization", 2016.
    """

    epsilon: float = option(1e-5, doc="added to the variance", above=0.0)
    scale: bool = option(True, doc="whether a weight is learned")
    bias: bool = option(True, doc="whether a bias is learned")

    def output_shape(self, input_shape: Shape) -> Shape:
        if math.prod(input_shape) < 2:
            raise ValueError(
                f"needs at least 2 inputs, got shape {input_shape}: a single input is its own "
                "mean, so its output is always 0"
            )
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        shapes = {"weight": input_shape} if self.scale else {}
        return shapes | ({"bias": input_shape} if self.bias else {})

    def parameter_roles(self, input_shape: Shape) -> dict[str, Role]:
        roles: dict[str, Role] = {"weight": "scale", "bias": "bias"}
        return {name: roles[name] for name in self.parameter_shapes(input_shape)}

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        if self.scale:
            parameters["weight"][...] = 1.0
        if self.bias:
            parameters["bias"][...] = 0.0

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        rows = x.reshape(len(x), math.prod(x.shape[1:]))
        normal = workspace.array("normal", rows.shape)
        np.subtract(rows, rows.mean(axis=1, keepdims=True), out=normal)
        product = workspace.array("product", rows.shape)
        np.multiply(normal, normal, out=product)
        inverse = 1 / np.sqrt(product.mean(axis=1, keepdims=True) + self.epsilon)
        normal *= inverse
        y = workspace.array("y", rows.shape)
        if self.scale:
            np.multiply(normal, parameters["weight"].reshape(-1), out=y)
        else:
            np.copyto(y, normal)
        if self.bias:
            y += parameters["bias"].reshape(-1)

        def backward(dy: Array, gradients: Views) -> Array:
            dy = dy.reshape(rows.shape)
            if self.bias:
                np.sum(dy, axis=0, out=gradients["bias"].reshape(-1))
            if self.scale:
                np.multiply(dy, normal, out=product)
                np.sum(product, axis=0, out=gradients["weight"].reshape(-1))
                dy *= parameters["weight"].reshape(-1)
            np.multiply(dy, normal, out=product)
            share = product.mean(axis=1, keepdims=True)
            np.multiply(normal, share, out=product)
            np.add(product, dy.mean(axis=1, keepdims=True), out=product)
            dy -= product
            dy *= inverse
            return dy.reshape(x.shape)

        return y.reshape(x.shape), backward
