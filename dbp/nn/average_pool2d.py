"""Average pooling over windows of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Backward, Layer, Range, Shape, Views, Workspace
from dbp.nn.row_product import RowProduct
from dbp.nn.window import Window, pair
from dbp.registry import option


@final
@dataclass(frozen=True)
class AveragePool2D(Layer):
    """The mean of every window; padding counts as zeros.

    x: (batch, channels, height, width).
    """

    kernel: int | tuple[int, ...] = option(2, doc="height and width, or one number")
    stride: int | tuple[int, ...] | None = option(
        None, doc="step from one window to the next; left out: the kernel"
    )
    padding: int | tuple[int, ...] = option(0, doc="zeros on each side")

    def __post_init__(self) -> None:
        window = self._window()
        if any(2 * p > k for p, k in zip(window.padding, window.kernel, strict=True)):
            raise ValueError(
                f"padding: must be at most half the kernel {self.kernel}, got {self.padding}"
            )

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:1], *self._window().positions(input_shape))

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {}

    def row_products(self, input_shape: Shape) -> Mapping[str, RowProduct]:
        return {}

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        pass

    def output_range(self, input_range: Range) -> Range:
        if not any(self._window().padding):
            return input_range
        return min(input_range[0], 0.0), max(input_range[1], 0.0)

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        window = self._window()
        places = window.positions(x.shape[1:])
        padded = workspace.array("padded", window.padded_shape(x))
        window.pad(x, padded, 0.0)
        y = workspace.array("y", (*x.shape[:2], *places))
        y.fill(0.0)
        for _, _, rows, columns in window.taps(places):
            y += padded[:, :, rows, columns]
        share = 1 / (window.kernel[0] * window.kernel[1])
        y *= share

        def backward(dy: Array, gradients: Views) -> Array:
            spread = workspace.array("spread", padded.shape)
            spread.fill(0.0)
            dy *= share
            for _, _, rows, columns in window.taps(places):
                spread[:, :, rows, columns] += dy
            dx = workspace.array("dx", x.shape)
            np.copyto(dx, window.inside(spread))
            return dx

        return y, backward

    def _window(self) -> Window:
        stride = self.kernel if self.stride is None else self.stride
        return Window(
            pair("kernel", self.kernel, 1),
            pair("stride", stride, 1),
            pair("padding", self.padding, 0),
        )
