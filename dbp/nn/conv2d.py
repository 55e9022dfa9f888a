"""The 2-D convolution layer, for images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from dbp.nn.block_convolution import BlockConvolution
from dbp.nn.convolution import KEPT_BYTES, Convolution
from dbp.nn.initializer import HeUniform, Initializer, Zeros
from dbp.nn.joint_layer import JointBackward, JointLayer, LaneGradients
from dbp.nn.layer import Array, Shape, Views, Workspace
from dbp.nn.row_product import RowProduct
from dbp.nn.sample_convolution import SampleConvolution
from dbp.nn.window import Window, pair
from dbp.registry import option

SMALL: Final = 7  # least number of samples whose images fit into a block


@final
@dataclass(frozen=True)
class Conv2D(JointLayer):
    """2-D convolution; each output channel sums over the input channels of its group.

    x: (batch, channels, height, width); weight: (filters, channels / groups, kernel height,
    kernel width); bias: (filters,), as in PyTorch. The windows of the images are columns of a
    matrix (im2col), and the convolution is a matrix product (Chellapilla, Puri and Simard,
    2006). An input that is infinite or NaN may make outputs next to its windows NaN, too.
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

    def row_products(self, input_shape: Shape) -> Mapping[str, RowProduct]:
        return {}

    @property
    def arithmetic(self) -> tuple[str, ...]:
        return ("convolutions in blocks",)

    def kept_bytes(self, input_shape: Shape, lanes: Sequence[int], itemsize: int) -> int:
        elements = sum(
            rows * self._convolution((rows, *input_shape), itemsize).copies_size
            for rows in lanes
        )
        return elements * itemsize if elements * itemsize <= KEPT_BYTES else 0

    def forward_joint(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, JointBackward]:
        y = workspace.array("y", (len(x), *self.output_shape(x.shape[1:])))
        rows = workspace.lanes or (slice(None),)
        counts = [len(x[lane]) for lane in rows]
        keeps = workspace.training and self.kept_bytes(x.shape[1:], counts, x.itemsize) > 0
        lanes = [
            self._forward_lane(
                parameters, x[lane], y[lane], workspace, f"copies {number}" if keeps else None
            )
            for number, lane in enumerate(rows)
        ]

        def backward(dy: Array, gradients: LaneGradients) -> Array | None:
            needs = workspace.needs_input_gradient
            dx = workspace.array("dx", x.shape) if needs else None
            of_weight = zip(lanes, gradients.of_lanes("weight"), strict=True)
            for backward_lane, (lane, own) in of_weight:
                backward_lane(dy[lane], own, None if dx is None else dx[lane])
            if self.bias:
                for lane, own in gradients.of_lanes("bias"):
                    np.sum(dy[lane], axis=(0, 2, 3), out=own)
            return dx

        return y, backward

    def _forward_lane(
        self, parameters: Views, x: Array, y: Array, workspace: Workspace, name: str | None
    ) -> Callable[[Array, Array, Array | None], None]:
        """Write the outputs of a lane; return its backward pass.

        That takes dy, and memory for the gradient of the weight and for dx. ``name`` is that
        of the array that keeps the copies for it; None: it makes them again, block by block.
        """
        convolution = self._convolution(x.shape, x.itemsize)
        matrix = convolution.matrix_of(parameters["weight"], workspace)
        bias = parameters["bias"].reshape(-1, 1, 1) if self.bias else None
        size = convolution.copies_size
        kept = None if name is None else workspace.array(name, (len(x), size))
        blocks = convolution.blocks(len(x))

        def copies_of(block: slice) -> Array:
            if kept is not None:
                return kept[block]
            return workspace.array("copies", (block.stop - block.start, size))

        for block in blocks:
            copies = copies_of(block)
            convolution.copy(x[block], copies, workspace)
            convolution.forward(matrix, x[block], copies, y[block], workspace)
            if bias is not None:
                y[block] += bias

        def backward(dy: Array, own: Array, dx: Array | None) -> None:
            total = workspace.array("total", convolution.matrix_shape)
            total.fill(0.0)
            for block in blocks:
                copies, to = copies_of(block), None if dx is None else dx[block]
                if kept is None:
                    convolution.copy(x[block], copies, workspace)
                convolution.backward(matrix, x[block], dy[block], copies, total, to, workspace)
            convolution.collect(total, own)

        return backward

    def _convolution(self, shape: Shape, itemsize: int) -> Convolution:
        """Return the way to compute images of this shape, with the number of samples first."""
        return convolution_of(self._window(), self.groups, self.filters, shape, itemsize)

    def _window(self) -> Window:
        return Window(
            pair("kernel", self.kernel, 1),
            pair("stride", self.stride, 1),
            pair("padding", self.padding, 0),
            pair("dilation", self.dilation, 1),
        )


@functools.lru_cache(256)
def convolution_of(
    window: Window, groups: int, filters: int, shape: Shape, itemsize: int
) -> Convolution:
    """Return the way to compute images of this shape, (samples, channels, height, width)."""
    block = BlockConvolution(window, groups, filters, shape[1:], itemsize)
    if window.kernel != (1, 1) and min(shape[0], block.most) >= SMALL:
        return block
    return SampleConvolution(window, groups, filters, shape[1:], itemsize)
