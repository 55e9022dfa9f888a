"""The residual block: layers with a connection around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import (
    Array,
    Backward,
    BatchLayer,
    Layer,
    Meeting,
    MeetingBackward,
    Range,
    Shape,
    Views,
    Workspace,
    backward_of,
    forward_of,
    within,
)
from dbp.nn.role import Role
from dbp.registry import option


@final
@dataclass(frozen=True)
class Residual(BatchLayer):
    """y = x + f(x), f being layers in a row whose output has the input's shape.

    He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2016. The inner
    parameters are named by position: ``<position of the block>.<position inside>.weight``.
    """

    layers: tuple[Layer, ...] = option(doc="the layers inside, input first", group="layers")

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("layers: must hold at least one layer, got none")

    def output_shape(self, input_shape: Shape) -> Shape:
        *_, shape = self._shapes(input_shape)
        if shape != input_shape:
            raise ValueError(
                f"the layers inside turn shape {input_shape} into {shape}, "
                "but what is added must have the input's shape"
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

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        for position, layer in enumerate(self.layers):
            layer.initialize(within(parameters, str(position)), rng)

    def forward_meeting(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> Meeting[tuple[Array, MeetingBackward]]:
        inner: Array = x
        backwards: list[Backward | MeetingBackward] = []
        for position, layer in enumerate(self.layers):
            own = within(parameters, str(position))
            room = workspace.inner(str(position))
            inner, backward = yield from forward_of(layer, own, inner, room)
            backwards.append(backward)
        y = workspace.array("y", x.shape)
        np.add(x, inner, out=y)

        def backward_all(dy: Array, gradients: Views) -> Meeting[Array | None]:
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
        """Shapes before each inner layer and behind the last; raises ValueError."""
        shapes = [shape]
        for position, layer in enumerate(self.layers):
            try:
                layer.parameter_shapes(shapes[-1])
                shapes.append(layer.output_shape(shapes[-1]))
            except ValueError as error:
                raise ValueError(f"layers[{position}]: {error}") from error
        return shapes
