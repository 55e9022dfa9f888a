"""Convolution with one product for all samples of a block: for small images, few channels.

A block holds the samples innermost: an element of an image is a run of numbers, one a sample.
The block's images are copied once for each column of the window, not for each element of it.
Rows of that copy that lie one below the other are the right factor of a product as they are;
the left factor is the weight. With few filters, one product computes a band of two rows: its
left factor holds the weight twice, one row apart, and zeros elsewhere. An infinite input times
such a zero is NaN: outputs in a row next to its windows then are NaN, too.
"""

from __future__ import annotations

import math
from typing import Final, final

import numpy as np
from numpy.lib.stride_tricks import as_strided

from dbp.nn.convolution import BLOCK_BYTES, Convolution
from dbp.nn.layer import Array, Shape, Workspace
from dbp.nn.window import Window

FEW_FILTERS: Final = 24  # fewer use a small part of the processor's registers


@final
class BlockConvolution(Convolution):
    """Computes rows of the outputs of all samples of a block in one product.

    Channels and filters below are those of a group. The matrix has shape (groups, rows of a
    band, filters, rows, kernel width, channels).
    """

    def __init__(
        self, window: Window, groups: int, filters: int, input_shape: Shape, itemsize: int
    ) -> None:
        channels, height, width = input_shape
        self._window, self._groups = window, groups
        self._height, self._width = height, width
        self._channels, self._filters = channels // groups, filters // groups
        self._places = places = window.positions((channels, height, width))
        stride, dilation = window.stride[0], window.dilation[0]
        kernel, across = window.kernel
        if dilation == 1:
            two = self._filters < FEW_FILTERS and kernel > 2 and places[0] > 1
            self._band = 2 if two else 1
            self._bands = -(-places[0] // self._band)
            self._step = self._band * stride
            self._reach = (self._band - 1) * stride + kernel
            self._rows = self._image_rows = (self._bands - 1) * self._step + self._reach
            self._copied = [(slice(None), slice(None))]
        else:  # the rows of a window are not neighbors: copy them for each row of the window
            self._band, self._bands = 1, places[0]
            self._step = self._reach = kernel
            self._rows = kernel * places[0]
            span = (places[0] - 1) * stride + 1
            self._image_rows = span + (kernel - 1) * dilation
            self._copied = [
                (slice(i, None, kernel), slice(i * dilation, i * dilation + span, stride))
                for i in range(kernel)
            ]
        self._taps = [slice(row * stride, row * stride + kernel) for row in range(self._band)]
        self._columns = [column for i, _, _, column in window.taps(places) if i == 0]
        self._top = min(window.padding[0], self._image_rows)
        self._bottom = min(self._top + height, self._image_rows)
        self.matrix_shape: Shape = (
            groups, self._band, self._filters, self._reach, across, self._channels
        )  # fmt: skip
        self.copies_size = groups * self._rows * across * self._channels * places[1]
        size = self.copies_size + math.prod(self._outputs_shape(1))
        self.most = max(1, BLOCK_BYTES // (itemsize * size))

    def _copies(self, flat: Array) -> Array:
        """Return a view: (groups, rows, kernel width, channels, width, samples)."""
        across, width = self._window.kernel[1], self._places[1]
        return flat.reshape(
            self._groups, self._rows, across, self._channels, width, len(flat)
        )  # fmt: skip

    def _outputs_shape(self, samples: int) -> Shape:
        rows = self._bands * self._band
        return (self._groups, rows, self._filters, self._places[1], samples)

    def matrix_of(self, weight: Array, workspace: Workspace) -> Array:
        matrix = workspace.array("matrix", self.matrix_shape)
        matrix.fill(0.0)
        taps = self._by_row(weight)
        for row, rows in enumerate(self._taps):
            matrix[:, row, :, rows] = taps
        return matrix

    def collect(self, matrix: Array, weight: Array) -> None:
        taps = self._by_row(weight)
        np.copyto(taps, matrix[:, 0, :, self._taps[0]])
        for row, rows in enumerate(self._taps[1:], start=1):
            taps += matrix[:, row, :, rows]

    def _by_row(self, weight: Array) -> Array:
        """Return a view: (groups, filters, kernel height, kernel width, channels)."""
        shape = (self._groups, self._filters, self._channels, *self._window.kernel)
        return weight.reshape(shape).transpose(0, 1, 3, 4, 2)

    def copy(self, x: Array, copies: Array, workspace: Workspace) -> None:
        images = workspace.array("images", self._images_shape(len(x)))
        inside = self._inside(images)
        if inside.size < images.size:
            images.fill(0.0)
        np.copyto(inside, self._by_height(x))
        own = self._copies(copies)
        for to, rows in self._copied:
            for j, column in enumerate(self._columns):
                np.copyto(own[:, to, j], images[:, rows, :, column])

    def forward(
        self, matrix: Array, x: Array, copies: Array, y: Array, workspace: Workspace
    ) -> None:
        outputs = workspace.array("outputs", self._outputs_shape(len(x)))
        left, right = self._left(matrix), self._right(copies)
        shape = (self._groups, self._bands, left.shape[1], right.shape[3])
        np.matmul(left[:, None], right, out=outputs.reshape(shape))
        np.copyto(self._by_place(y), outputs[:, : self._places[0]])

    def backward(
        self,
        matrix: Array,
        x: Array,
        dy: Array,
        copies: Array,
        total: Array,
        dx: Array | None,
        workspace: Workspace,
    ) -> None:
        outputs = workspace.array("outputs", self._outputs_shape(len(dy)))
        outputs[:, self._places[0] :] = 0.0
        np.copyto(outputs[:, : self._places[0]], self._by_place(dy))
        right = self._right(copies)
        left = outputs.reshape(self._groups, self._bands, -1, right.shape[3])
        products = workspace.array("products", (*left.shape[:3], right.shape[2]))
        np.matmul(left, right.swapaxes(2, 3), out=products)
        flat = total.reshape(self._groups, *products.shape[2:])
        for band in range(self._bands):
            flat += products[:, band]
        if dx is not None:
            self._input_gradient(left, matrix, dx, workspace)

    def _input_gradient(
        self, right: Array, matrix: Array, dx: Array, workspace: Workspace
    ) -> None:
        """Write dx of a block; ``right`` is dy: (groups, bands, band * filters, length)."""
        samples = len(dx)
        left = self._left(matrix).swapaxes(1, 2)
        product = workspace.array("product", (*left.shape[:2], right.shape[3]))
        part = product.reshape(self._groups, self._reach, -1)
        copies = workspace.array("dcopies", (samples, self.copies_size))
        copies.fill(0.0)
        by_row = copies.reshape(self._groups, self._rows, -1)
        for band in range(self._bands):
            np.matmul(left, right[:, band], out=product)
            by_row[:, band * self._step : band * self._step + self._reach] += part
        images = workspace.array("images", self._images_shape(samples))
        images.fill(0.0)
        own = self._copies(copies)
        for to, rows in self._copied:
            for j, column in enumerate(self._columns):
                images[:, rows, :, column] += own[:, to, j]
        if self._bottom - self._top < self._height:
            dx.fill(0.0)  # the last rows are in no window
        np.copyto(self._by_height(dx), self._inside(images))

    def _left(self, matrix: Array) -> Array:
        """Return a view: (groups, rows of a band * filters, rows of a product)."""
        return matrix.reshape(self._groups, self._band * self._filters, -1)

    def _right(self, copies: Array) -> Array:
        """Return a view: (groups, bands, rows of a product, width * samples)."""
        own = self._copies(copies)
        length = own.shape[4] * own.shape[5]
        depth = self._reach * own.shape[2] * own.shape[3]
        group, row, _, channel = own.strides[:4]
        return as_strided(
            copies,
            (self._groups, self._bands, depth, length),
            (group, self._step * row, channel, copies.itemsize),
        )

    def _images_shape(self, samples: int) -> Shape:
        """Return the shape of padded images: (groups, rows, channels, width, samples)."""
        width = self._width + 2 * self._window.padding[1]
        return (self._groups, self._image_rows, self._channels, width, samples)

    def _inside(self, images: Array) -> Array:
        """Return the view of padded images without their padding."""
        left = self._window.padding[1]
        return images[:, self._top : self._bottom, :, left : left + self._width]

    def _by_height(self, x: Array) -> Array:
        """Return a view: (groups, rows, channels, width, samples), of the rows in windows."""
        shape = (len(x), self._groups, self._channels, self._height, self._width)
        return x.reshape(shape).transpose(1, 3, 2, 4, 0)[:, : self._bottom - self._top]

    def _by_place(self, y: Array) -> Array:
        """Return a view: (groups, rows, filters, width, samples)."""
        shape = (len(y), self._groups, self._filters, *self._places)
        return y.reshape(shape).transpose(1, 3, 2, 4, 0)
