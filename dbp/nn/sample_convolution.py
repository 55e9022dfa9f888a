"""Convolution with one product for each sample: for any images, best for many channels."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from dbp.nn.convolution import BLOCK_BYTES, Convolution
from dbp.nn.layer import Array, Shape, Workspace
from dbp.nn.window import Window


@final
class SampleConvolution(Convolution):
    """Copies the windows of a sample to the columns of a matrix (im2col), and multiplies it.

    Channels and filters below are those of a group. A window of one element needs no copies.
    The matrix has shape (groups, filters, channels * elements of a window).
    """

    def __init__(
        self, window: Window, groups: int, filters: int, input_shape: Shape, itemsize: int
    ) -> None:
        self._window, self._groups = window, groups
        self._places = places = window.positions(input_shape)
        self._area = math.prod(places)
        self._filters = filters // groups
        self._inputs = input_shape[0] // groups * math.prod(window.kernel)
        self._is_pointwise = window == Window((1, 1), (1, 1), (0, 0), window.dilation)
        self.matrix_shape = (groups, self._filters, self._inputs)
        columns = groups * self._inputs * self._area
        self.copies_size = 0 if self._is_pointwise else columns
        size = columns + math.prod(self.matrix_shape)
        self.most = max(1, BLOCK_BYTES // (itemsize * size))

    def matrix_of(self, weight: Array, workspace: Workspace) -> Array:
        return weight.reshape(self.matrix_shape)

    def collect(self, matrix: Array, weight: Array) -> None:
        np.copyto(weight.reshape(matrix.shape), matrix)

    def copy(self, x: Array, copies: Array, workspace: Workspace) -> None:
        if self._is_pointwise:
            return
        window = self._window
        padded = workspace.array("padded", window.padded_shape(x))
        window.pad(x, padded, 0.0)
        views = copies.reshape(*x.shape[:2], *window.kernel, *self._places)
        for i, j, rows, cols in window.taps(self._places):
            np.copyto(views[:, :, i, j], padded[:, :, rows, cols])

    def forward(
        self, matrix: Array, x: Array, copies: Array, y: Array, workspace: Workspace
    ) -> None:
        np.matmul(matrix, self._columns(x, copies), out=self._outputs(y))

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
        dy, columns = self._outputs(dy), self._columns(x, copies)
        own = workspace.array("own", (len(x), *total.shape))
        np.matmul(dy, columns.swapaxes(2, 3), out=own)
        for sample in own:
            total += sample
        if dx is None:
            return
        if self._is_pointwise:
            np.matmul(matrix.swapaxes(1, 2), dy, out=dx.reshape(columns.shape))
            return
        spread = workspace.array("spread", columns.shape)
        np.matmul(matrix.swapaxes(1, 2), dy, out=spread)
        self._scatter(spread, dx, workspace)

    def _scatter(self, columns: Array, dx: Array, workspace: Workspace) -> None:
        """Add the gradients of all windows at their positions in the images (col2im)."""
        window = self._window
        padded = workspace.array("dpadded", window.padded_shape(dx))
        padded.fill(0.0)
        views = columns.reshape(*dx.shape[:2], *window.kernel, *self._places)
        for i, j, rows, cols in window.taps(self._places):
            padded[:, :, rows, cols] += views[:, :, i, j]
        np.copyto(dx, window.inside(padded))

    def _columns(self, x: Array, copies: Array) -> Array:
        """Return a view of the windows: (samples, groups, channels * elements, places)."""
        source = x if self._is_pointwise else copies
        return source.reshape(len(x), self._groups, self._inputs, self._area)

    def _outputs(self, y: Array) -> Array:
        """Return a view: (samples, groups, filters, places)."""
        return y.reshape(len(y), self._groups, self._filters, self._area)
