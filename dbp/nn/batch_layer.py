"""The interface of a layer that needs statistics of the whole mini-batch, and its lockstep.

The lanes of such a layer exchange their statistics at *sync points*: a lane is a generator that
yields there, and the generators of all lanes run in lockstep. Other layers, and models without
a BatchLayer, use no generators.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

import numpy as np

from dbp.nn.layer import Array, Backward, Layer, Views, Workspace, to_overwrite

T = TypeVar("T")

# A computation of one lane batch. At every sync point it yields the lane's statistics, 1-D
# float64, and is sent those of all lanes, shape (lanes, size), in one fixed order.
LaneGenerator = Generator[Array, Array, T]
LaneBackward = Callable[[Array, Views], LaneGenerator[Array | None]]


class BatchLayer(Layer, ABC):
    """A layer that needs statistics of the whole mini-batch, such as batch normalization."""

    @property
    def has_sync_points(self) -> bool:
        return True

    @abstractmethod
    def forward_lane(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> LaneGenerator[tuple[Array, LaneBackward]]:
        """Run ``forward`` on one lane batch; yield at sync points, as does the backward pass.

        Every lane batch, even an empty one, has the same sync points. Evaluation has none.
        """

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        """Run the layer on the whole mini-batch ``x``, as a single lane batch."""
        y, backward_lane = run_single(self.forward_lane(parameters, x, workspace))

        def backward(dy: Array, gradients: Views) -> Array | None:
            return run_single(backward_lane(dy, gradients))

        return y, backward


def forward_of(
    layer: Layer, parameters: Views, x: Array, workspace: Workspace
) -> LaneGenerator[tuple[Array, Backward | LaneBackward]]:
    """Run a layer's forward pass on one lane batch, with sync points if it has any."""
    y, backward = (
        (yield from layer.forward_lane(parameters, x, workspace))
        if isinstance(layer, BatchLayer)
        else layer.forward(parameters, x, workspace)
    )
    return np.ascontiguousarray(y), backward


def backward_of(
    backward: Backward | LaneBackward, dy: Array, gradients: Views
) -> LaneGenerator[Array | None]:
    """Run a layer's backward pass on one lane batch, with sync points if it has any."""
    result = backward(to_overwrite(dy), gradients)
    return (yield from result) if isinstance(result, Generator) else result


def run_in_lockstep(
    lanes: Sequence[LaneGenerator[T]], gather: Callable[[Array], Array] = np.copy
) -> list[T]:
    """Run the lanes' generators in lockstep; all-gather their statistics at every yield.

    Args:
        lanes: The generators of this rank's lanes.
        gather: Returns the statistics of the lanes of all ranks, (all lanes, size), from those
            of this rank, (lanes, size). If it is collective, so is this function.

    Returns the generators' results, in the order of ``lanes``.
    """
    results: list[T] = []
    statistics = []
    for lane in lanes:
        try:
            statistics.append(next(lane))
        except StopIteration as end:
            results.append(end.value)
    while statistics:
        gathered = gather(np.stack(statistics))
        statistics = []
        for lane in lanes:
            try:
                statistics.append(lane.send(gathered))
            except StopIteration as end:
                results.append(end.value)
    return results


def run_single(lane: LaneGenerator[T]) -> T:
    """Run one generator whose lane batch is the whole mini-batch; return its result."""
    return run_in_lockstep([lane])[0]
