"""Geometry of sliding windows over images, for convolution and pooling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dbp.nn.layer import Array, Shape

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A window of ``kernel`` elements that moves over images padded by ``padding``.

    Pairs are (height, width), as in PyTorch.
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair = (1, 1)

    def positions(self, input_shape: Shape) -> Pair:
        """Return the number of window positions, (rows, columns).

        Raises ValueError if the window does not fit into images of this shape.
        """
        if len(input_shape) != 3 or min(input_shape) < 1:
            raise ValueError(
                f"needs samples of shape (channels, height, width), got {input_shape}"
            )
        places = []
        for size, k, s, p, d in zip(
            input_shape[1:], self.kernel, self.stride, self.padding, self.dilation, strict=True
        ):
            span = d * (k - 1) + 1
            if size + 2 * p < span:
                raise ValueError(
                    f"kernel: a window of {span} elements does not fit into {size} + 2 * {p}"
                )
            places.append((size + 2 * p - span) // s + 1)
        return places[0], places[1]

    def taps(self, places: Pair) -> Iterator[tuple[int, int, slice, slice]]:
        """Yield (i, j) of each window element, and the padded rows and columns it visits."""
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                top, left = i * self.dilation[0], j * self.dilation[1]
                rows = slice(top, top + self.stride[0] * (places[0] - 1) + 1, self.stride[0])
                columns = slice(
                    left, left + self.stride[1] * (places[1] - 1) + 1, self.stride[1]
                )
                yield i, j, rows, columns

    def padded_shape(self, x: Array) -> Shape:
        """Return the shape of these images with padding."""
        height, width = x.shape[2] + 2 * self.padding[0], x.shape[3] + 2 * self.padding[1]
        return (*x.shape[:2], height, width)

    def pad(self, x: Array, out: Array, value: float) -> None:
        """Write the images to ``out``, padded with ``value``."""
        if self.padding != (0, 0):
            out.fill(value)
        np.copyto(self.inside(out), x)

    def inside(self, padded: Array) -> Array:
        """Return the view of padded images without their padding."""
        (up, left), (height, width) = self.padding, padded.shape[2:]
        return padded[:, :, up : height - up, left : width - left]


def pair(name: str, value: int | tuple[int, ...], least: int) -> Pair:
    """Return an option as (height, width).

    Raises ValueError, naming the option, unless it is one or two numbers >= ``least``.
    """
    values = (value, value) if isinstance(value, int) else tuple(value)
    if len(values) != 2 or min(values) < least:
        raise ValueError(f"{name}: must be one or two integers >= {least}, got {value}")
    return values[0], values[1]
