"""Max pooling over windows of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Backward, Layer, Range, Shape, Views, Workspace
from dbp.nn.row_product import RowProduct
from dbp.nn.window import Window, pair
from dbp.registry import option


@final
@dataclass(frozen=True)
class MaxPool2D(Layer):
    """The largest element of every window; the first of equal ones gets the gradient.

    x: (batch, channels, height, width).
    """

    kernel: int | tuple[int, ...] = option(2, doc="height and width, or one number")
    stride: int | tuple[int, ...] | None = option(
        None, doc="step from one window to the next; left out: the kernel"
    )
    padding: int | tuple[int, ...] = option(0, doc="elements of minus infinity on each side")

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
        return input_range

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        window = self._window()
        if window.stride == window.kernel and window.padding == (0, 0):
            return self._forward_disjoint(x, workspace)
        places = window.positions(x.shape[1:])
        padded = workspace.array("padded", window.padded_shape(x))
        window.pad(x, padded, -np.inf)
        y = workspace.array("y", (*x.shape[:2], *places))
        y.fill(-np.inf)
        for _, _, rows, columns in window.taps(places):
            np.maximum(y, padded[:, :, rows, columns], out=y)

        def backward(dy: Array, gradients: Views) -> Array:
            spread = workspace.array("spread", padded.shape)
            spread.fill(0.0)
            free = workspace.array("free", y.shape, bool)
            free.fill(True)
            largest = workspace.array("largest", y.shape, bool)
            for _, _, rows, columns in window.taps(places):
                np.equal(padded[:, :, rows, columns], y, out=largest)
                largest &= free
                free &= ~largest
                spread[:, :, rows, columns] += dy * largest
            dx = workspace.array("dx", x.shape)
            np.copyto(dx, window.inside(spread))
            return dx

        return y, backward

    def _forward_disjoint(self, x: Array, workspace: Workspace) -> tuple[Array, Backward]:
        """Run ``forward`` for windows side by side: first along the rows, then down."""
        window = self._window()
        height, width = window.kernel
        places = window.positions(x.shape[1:])
        used = (places[0] * height, places[1] * width)
        rows = workspace.array("rows", (*x.shape[:2], used[0], places[1]))
        y = workspace.array("y", (*x.shape[:2], *places))
        across = [x[:, :, : used[0], j : used[1] : width] for j in range(width)]
        down = [rows[:, :, i::height] for i in range(height)]
        _largest(across, rows)
        _largest(down, y)

        def backward(dy: Array, gradients: Views) -> Array:
            drows = workspace.array("drows", rows.shape)
            dx = workspace.array("dx", x.shape)
            if used != x.shape[2:]:
                dx.fill(0.0)  # the last rows or columns are in no window
            mask = workspace.array("mask", rows.shape, bool)
            of_rows = [drows[:, :, i::height] for i in range(height)]
            _hand_out(dy, y, down, of_rows, mask.reshape(-1)[: y.size].reshape(y.shape))
            of_x = [dx[:, :, : used[0], j : used[1] : width] for j in range(width)]
            _hand_out(drows, rows, across, of_x, mask)
            return dx

        return y, backward

    def _window(self) -> Window:
        stride = self.kernel if self.stride is None else self.stride
        return Window(
            pair("kernel", self.kernel, 1),
            pair("stride", stride, 1),
            pair("padding", self.padding, 0),
        )


def _largest(parts: Sequence[Array], out: Array) -> None:
    """Write the largest of the parts, element by element."""
    if len(parts) == 1:
        np.copyto(out, parts[0])
        return
    np.maximum(parts[0], parts[1], out=out)
    for part in parts[2:]:
        np.maximum(out, part, out=out)


def _hand_out(
    dy: Array, largest: Array, parts: Sequence[Array], out: Sequence[Array], mask: Array
) -> None:
    """Give each element of dy to the first part that is the largest; 0 to the others.

    It overwrites dy.
    """
    for number, part in enumerate(parts[:-1]):
        np.equal(part, largest, out=mask)
        np.multiply(dy, mask, out=out[number])
        np.subtract(dy, out[number], out=dy)
    np.copyto(out[-1], dy)
