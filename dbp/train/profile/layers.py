"""Time the forward and the backward pass of each layer of a model."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Generator
from typing import Any, Final

from dbp.nn.batch_layer import BatchLayer
from dbp.nn.layer import Layer
from dbp.nn.model import Model
from dbp.train.profile.recorder import Recorder

# Methods of layers that return outputs and a backward pass; a layer need not have all.
PASSES: Final = ("forward", "forward_joint")


def trace_layers(model: Model, recorder: Recorder) -> None:
    """Replace the layers of a model by copies that report their passes to the recorder.

    The copies keep their types, by which the model selects passes: only their methods are
    replaced. A plug-in whose instances cannot have attributes is left as it is.
    """
    model.layers = tuple(
        _traced(layer, f"{position} {type(layer).__name__}", recorder)
        for position, layer in enumerate(model.layers)
    )


def _traced(layer: Layer, name: str, recorder: Recorder) -> Layer:
    traced = copy.copy(layer)
    with contextlib.suppress(AttributeError, TypeError):
        if isinstance(layer, BatchLayer):
            _set(traced, "forward_lane", _lane(layer.forward_lane, name, recorder))
        else:
            for method in PASSES:
                if hasattr(layer, method):
                    _set(traced, method, _forward(getattr(layer, method), name, recorder))
    return traced


def _set(layer: Layer, method: str, function: Callable[..., Any]) -> None:
    object.__setattr__(layer, method, function)  # layers are frozen


def _forward(inner: Callable[..., Any], name: str, recorder: Recorder) -> Callable[..., Any]:
    """Return a forward pass that times itself and its backward pass."""
    clock = recorder.clock

    def forward(*arguments: Any) -> tuple[Any, Callable[..., Any]]:
        start = clock()
        y, inner_backward = inner(*arguments)
        recorder.add_layer(f"{name} forward", start)

        def backward(*arguments: Any) -> Any:
            start = clock()
            dx = inner_backward(*arguments)
            recorder.add_layer(f"{name} backward", start)
            return dx

        return y, backward

    return forward


def _lane(inner: Callable[..., Any], name: str, recorder: Recorder) -> Callable[..., Any]:
    """Return a forward pass of a lane batch; its sync points end a span and begin another."""

    def forward_lane(*arguments: Any) -> Generator[Any, Any, Any]:
        y, inner_backward = yield from _in_parts(inner(*arguments), f"{name} forward", recorder)

        def backward(*arguments: Any) -> Generator[Any, Any, Any]:
            lane = inner_backward(*arguments)
            return (yield from _in_parts(lane, f"{name} backward", recorder))

        return y, backward

    return forward_lane


def _in_parts(
    lane: Generator[Any, Any, Any], name: str, recorder: Recorder
) -> Generator[Any, Any, Any]:
    """Run a lane's generator; record the time between its sync points."""
    gathered = None
    while True:
        start = recorder.clock()
        try:
            statistics = lane.send(gathered)
        except StopIteration as end:
            recorder.add_layer(name, start)
            return end.value
        recorder.add_layer(name, start)
        gathered = yield statistics
