"""The 2-D convolution layer, for images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.initializer import HeUniform, Initializer, Zeros
from dbp.nn.layer import Array, Backward, Layer, Shape, Views, Workspace
from dbp.nn.window import Window, pair
from dbp.registry import option


@final
@dataclass(frozen=True)
class Conv2D(Layer):
    """2-D convolution; each output channel sums over the input channels of its group.

    x: (batch, channels, height, width); weight: (filters, channels / groups, kernel height,
    kernel width); bias: (filters,), as in PyTorch. The windows of one sample are copied to
    the columns of a matrix (im2col), and the convolution is a matrix product (Chellapilla,
    Puri and Simard, 2006).
    """

    filters: int = option(doc="number of output channels", minimum=1)
    kernel: int | tuple[int, ...] = option(3, doc="height and width, or one number")
    stride: int | tuple[int, ...] = option(1, doc="step from one window to the next")
    padding: int | tuple[int, ...] = option(0, doc="zeros on each side")
    dilation: int | tuple[int, ...] = option(
        1, doc="step from one element of the window to the next"
    )
    groups: int = option(
        1, doc="number of groups of channels; a group's outputs use only its inputs", minimum=1
    )
    bias: bool = option(True, doc="whether to add a bias")
    weight_initializer: Initializer = option(
        HeUniform(), doc="initial values of the weight", group="initializers"
    )
    bias_initializer: Initializer = option(
        Zeros(), doc="initial values of the bias", group="initializers"
    )

    def __post_init__(self) -> None:
        self._window()

    def output_shape(self, input_shape: Shape) -> Shape:
        return (self.filters, *self._window().positions(input_shape))

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        self._window().positions(input_shape)
        channels = input_shape[0]
        if channels % self.groups or self.filters % self.groups:
            raise ValueError(
                f"groups: must divide channels ({channels}) and filters ({self.filters}), "
                f"got {self.groups}"
            )
        kernel = self._window().kernel
        shapes: dict[str, Shape] = {"weight": (self.filters, channels // self.groups, *kernel)}
        if self.bias:
            shapes["bias"] = (self.filters,)
        return shapes

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        self.weight_initializer.fill(parameters["weight"], rng)
        if self.bias:
            self.bias_initializer.fill(parameters["bias"], rng)

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        window, batch, channels = self._window(), len(x), x.shape[1]
        places = window.positions(x.shape[1:])
        area, taps = places[0] * places[1], window.kernel[0] * window.kernel[1]
        inputs = channels // self.groups * taps
        outputs = self.filters // self.groups
        columns = workspace.array("columns", (batch, self.groups, inputs, area))
        self._gather(window, x, columns, workspace)
        weight = parameters["weight"].reshape(self.groups, outputs, inputs)
        y = workspace.array("y", (batch, self.groups, outputs, area))
        np.matmul(weight, columns, out=y)
        if self.bias:
            y += parameters["bias"].reshape(self.groups, outputs, 1)

        def backward(dy: Array, gradients: Views) -> Array | None:
            dy = dy.reshape(y.shape)
            own = workspace.array("own", (batch, self.groups, outputs, inputs))
            np.matmul(dy, columns.swapaxes(2, 3), out=own)
            np.sum(own, axis=0, out=gradients["weight"].reshape(weight.shape))
            if self.bias:
                bias = gradients["bias"].reshape(self.groups, outputs)
                np.sum(dy, axis=(0, 3), out=bias)
            if not workspace.needs_input_gradient:
                return None
            spread = workspace.array("spread", columns.shape)
            np.matmul(weight.swapaxes(1, 2), dy, out=spread)
            return self._scatter(window, spread, x, workspace)

        return y.reshape(batch, self.filters, *places), backward

    def _gather(self, window: Window, x: Array, columns: Array, workspace: Workspace) -> None:
        """Copy the windows of all samples to ``columns`` (im2col)."""
        padded = workspace.array("padded", window.padded_shape(x))
        window.pad(x, padded, 0.0)
        places = window.positions(x.shape[1:])
        views = columns.reshape(*x.shape[:2], *window.kernel, *places)
        for i, j, rows, cols in window.taps(places):
            np.copyto(views[:, :, i, j], padded[:, :, rows, cols])

    def _scatter(self, window: Window, columns: Array, x: Array, workspace: Workspace) -> Array:
        """Add the gradients of all windows at their positions in the images (col2im)."""
        padded = workspace.array("dpadded", window.padded_shape(x))
        padded.fill(0.0)
        places = window.positions(x.shape[1:])
        views = columns.reshape(*x.shape[:2], *window.kernel, *places)
        for i, j, rows, cols in window.taps(places):
            padded[:, :, rows, cols] += views[:, :, i, j]
        dx = workspace.array("dx", x.shape)
        np.copyto(dx, window.inside(padded))
        return dx

    def _window(self) -> Window:
        return Window(
            pair("kernel", self.kernel, 1),
            pair("stride", self.stride, 1),
            pair("padding", self.padding, 0),
            pair("dilation", self.dilation, 1),
        )
