"""The residual block: layers whose input is added to their output (a skip connection)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.batch_layer import (
    BatchLayer,
    LaneBackward,
    LaneGenerator,
    backward_of,
    forward_of,
)
from dbp.nn.layer import Array, Backward, Layer, Range, Shape, Views, Workspace, within
from dbp.nn.role import Role
from dbp.registry import option


@final
@dataclass(frozen=True)
class Residual(BatchLayer):
    """y = x + f(x), where f is a sequence of layers that keeps the shape.

    He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2016. The inner
    parameters are named by position: ``<position of the block>.<position inside>.weight``.
    """

    layers: tuple[Layer, ...] = option(
        doc="the inner layers, from input to output", group="layers"
    )

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("layers: must hold at least one layer, got none")

    @property
    def has_sync_points(self) -> bool:
        return any(layer.has_sync_points for layer in self.layers)

    def output_shape(self, input_shape: Shape) -> Shape:
        *_, shape = self._shapes(input_shape)
        if shape != input_shape:
            raise ValueError(
                f"the inner layers turn shape {input_shape} into {shape}, "
                "but their output is added to their input and needs the same shape"
            )
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        shapes = self._shapes(input_shape)
        return {
            f"{position}.{name}": own
            for position, layer in enumerate(self.layers)
            for name, own in layer.parameter_shapes(shapes[position]).items()
        }

    def parameter_roles(self, input_shape: Shape) -> dict[str, Role]:
        shapes = self._shapes(input_shape)
        return {
            f"{position}.{name}": role
            for position, layer in enumerate(self.layers)
            for name, role in layer.parameter_roles(shapes[position]).items()
        }

    def state_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        shapes = self._shapes(input_shape)
        return {
            f"{position}.{name}": own
            for position, layer in enumerate(self.layers)
            for name, own in layer.state_shapes(shapes[position]).items()
        }

    def output_range(self, input_range: Range) -> Range:
        inner = input_range
        for layer in self.layers:
            inner = layer.output_range(inner)
        return input_range[0] + inner[0], input_range[1] + inner[1]

    def values_per_channel(self, input_shape: Shape) -> int:
        shapes = self._shapes(input_shape)
        numbers = [
            layer.values_per_channel(shape)
            for layer, shape in zip(self.layers, shapes, strict=False)
        ]
        return min((number for number in numbers if number), default=0)

    @property
    def arithmetic(self) -> tuple[str, ...]:
        return tuple(way for layer in self.layers for way in layer.arithmetic)

    def kept_bytes(self, input_shape: Shape, lanes: Sequence[int], itemsize: int) -> int:
        shapes = self._shapes(input_shape)
        return sum(
            layer.kept_bytes(shape, lanes, itemsize)
            for layer, shape in zip(self.layers, shapes, strict=False)
        )

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        for position, layer in enumerate(self.layers):
            layer.initialize(within(parameters, str(position)), rng)

    def forward_lane(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> LaneGenerator[tuple[Array, LaneBackward]]:
        inner: Array = x
        backwards: list[Backward | LaneBackward] = []
        for position, layer in enumerate(self.layers):
            own = within(parameters, str(position))
            inner_workspace = workspace.inner(str(position))
            inner, backward = yield from forward_of(layer, own, inner, inner_workspace)
            backwards.append(backward)
        y = workspace.array("y", x.shape)
        np.add(x, inner, out=y)

        def backward_all(dy: Array, gradients: Views) -> LaneGenerator[Array | None]:
            dx = workspace.array("dx", x.shape)
            np.copyto(dx, dy)
            through = dy
            for position in range(len(self.layers) - 1, -1, -1):
                own = within(gradients, str(position))
                result = yield from backward_of(backwards[position], through, own)
                if result is None:
                    raise AssertionError(f"layers[{position}] returned no input gradient")
                through = result
            dx += through
            return dx

        return y, backward_all

    def _shapes(self, shape: Shape) -> list[Shape]:
        """Return the input shape of each inner layer, and the output shape of the last.

        Raises ValueError naming the inner layer that does not fit.
        """
        shapes = [shape]
        for position, layer in enumerate(self.layers):
            try:
                layer.parameter_shapes(shapes[-1])
                shapes.append(layer.output_shape(shapes[-1]))
            except ValueError as error:
                raise ValueError(f"layers[{position}]: {error}") from error
        return shapes
