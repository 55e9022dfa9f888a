"""The interface of a layer with parameters that computes several lanes in one call.

The rows of neighboring lanes are one batch for everything but the gradients of the parameters:
these are sums over the rows of one lane, and the sums of the lanes are added in a fixed tree.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, final

import numpy as np

from dbp.nn.layer import Array, Backward, Layer, Shape, Views, Workspace
from dbp.nn.row_product import RowProduct

LaneMemory = Sequence[tuple[Array, Sequence[tuple[Array, Array]]]]
"""For each lane: memory for its gradient, and the pairs (left, right) to add after it."""


class LaneGradients(Protocol):
    """Receives the gradients of a layer's parameters, lane by lane."""

    def of_lanes(self, name: str) -> Iterable[tuple[slice, Array]]:
        """Yield the rows of each lane, and memory for its gradient of this parameter.

        Write the gradient before taking the next lane, and take all lanes.
        """


JointBackward = Callable[[Array, LaneGradients], Array | None]


class JointLayer(Layer, ABC):
    """A layer with parameters that can compute the rows of several lanes in one call."""

    @abstractmethod
    def row_products(self, input_shape: Shape) -> Mapping[str, RowProduct]:
        """Return the products that ``workspace.multiply_rows`` computes, by name."""

    @abstractmethod
    def forward_joint(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, JointBackward]:
        """Run ``forward`` on the rows of one or several lanes.

        ``backward(dy, gradients)`` writes the gradients of each lane, and returns dx.
        """

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        """Run the layer on a batch of a single lane."""
        y, backward_joint = self.forward_joint(parameters, x, workspace)

        def backward(dy: Array, gradients: Views) -> Array | None:
            return backward_joint(dy, _SingleLane(gradients))

        return y, backward


def joins_lanes(layers: Iterable[Layer], input_shapes: Iterable[Shape]) -> bool:
    """Return whether one pass through these layers can compute several lanes."""
    return all(
        layer.row_products(shape) is not None
        and not layer.has_sync_points
        and (isinstance(layer, JointLayer) or not layer.parameter_shapes(shape))
        for layer, shape in zip(layers, input_shapes, strict=False)
    )


@final
class _SingleLane(LaneGradients):
    """The gradients of a batch that is one lane."""

    def __init__(self, gradients: Views) -> None:
        self._gradients = gradients

    def of_lanes(self, name: str) -> Iterable[tuple[slice, Array]]:
        return ((slice(None), self._gradients[name]),)


@final
class JointGradients:
    """The gradients of several lanes: each tensor is added up as soon as a lane has written it.

    Attributes:
        lanes: The rows of each lane in the present batch.
        slices: The slice of each tensor in the flat vector, by name.
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        slices: Mapping[str, slice],
        memory: Sequence[LaneMemory],
    ) -> None:
        """``memory`` holds that of each tensor, in the order of ``shapes``; all flat."""
        self.lanes: Sequence[slice] = ()
        self.slices = slices
        self._memory = {
            name: [(own.reshape(shape), adds) for own, adds in lanes]
            for (name, shape), lanes in zip(shapes.items(), memory, strict=True)
        }
        self._layers: list[LaneGradients] = []

    def of_layers(self, count: int) -> Sequence[LaneGradients]:
        """Return the gradients of each of ``count`` layers."""
        for position in range(len(self._layers), count):
            self._layers.append(_LayerGradients(self, position))
        return self._layers

    def of_lanes(self, name: str) -> Iterator[tuple[slice, Array]]:
        """Yield rows and memory of each lane; then add what the lane completes."""
        for rows, (own, adds) in zip(self.lanes, self._memory[name], strict=True):
            yield rows, own
            for left, right in adds:
                np.add(left, right, out=left)


@final
class _LayerGradients(LaneGradients):
    """The gradients of one layer, by the layer's own names."""

    def __init__(self, gradients: JointGradients, position: int) -> None:
        self._gradients = gradients
        self._prefix = f"{position}."

    def of_lanes(self, name: str) -> Iterable[tuple[slice, Array]]:
        return self._gradients.of_lanes(self._prefix + name)
