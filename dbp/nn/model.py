"""The model: layers in a row, a loss behind them, metrics beside. Knows no ranks.

It owns the planned buffers and nothing else: parameters and gradients are arguments. The flat
vector holds the parameters first, then the layers' state (running statistics).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
import numpy.typing as npt

from dbp.nn.layer import (
    Array,
    Backward,
    BatchLayer,
    Layer,
    Meeting,
    MeetingBackward,
    Shape,
    Views,
    Workspace,
    alone,
    backward_of,
    forward_of,
    names_within,
)
from dbp.nn.loss import Loss
from dbp.nn.metric import Metric
from dbp.nn.parameters import Parameters
from dbp.nn.role import Role
from dbp.nn.row_random import RowRandom
from dbp.random import keyed_generator


@dataclass(frozen=True)
class Piece:
    """Samples of one mini-batch that are computed together, and what goes with them.

    ``x``: (rows, *input_shape); ``target``: (rows, ...); ``weight``: (rows,) or None.
    ``number`` tells pieces apart whose buffers must live at the same time. ``new_state`` is
    given to one piece only, to update in place. ``ready`` is called with the first element
    from which on the gradients are final.
    """

    x: Array
    target: Array
    weight: Array | None = None
    number: int = 0
    random: RowRandom = field(default_factory=RowRandom)
    new_state: Parameters | None = None
    ready: Callable[[int], None] | None = None


@dataclass(frozen=True)
class PieceSums:
    """What a piece gave: sums over its samples, and its outputs, in planned memory."""

    loss: float
    weight: float
    prediction: Array


@final
class Model:
    """Parameters are named as in ``torch.nn.Sequential``: ``<position>.<name>``."""

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: Shape,
        *,
        dtype: npt.DTypeLike,
        loss: Loss,
        metrics: Sequence[Metric] = (),
        freezes: Callable[[str], bool] = lambda name: False,
    ) -> None:
        """Compose the shapes; raises ValueError naming the layer that does not fit.

        ``freezes`` says of a parameter or a running statistic by name whether training leaves
        it as it is.
        """
        self.layers = tuple(layers)
        self.input_shape = input_shape
        self.dtype = np.dtype(dtype)
        self.loss = loss
        self.metrics = tuple(metrics)
        self.parameter_shapes: dict[str, Shape] = {}
        self.parameter_roles: dict[str, Role] = {}
        self.state_shapes: dict[str, Shape] = {}
        self._names: list[tuple[str, ...]] = []
        self._state_names: list[tuple[str, ...]] = []
        shape = input_shape
        for position, layer in enumerate(self.layers):
            try:
                own, state = layer.parameter_shapes(shape), layer.state_shapes(shape)
                roles = layer.parameter_roles(shape)
                shape = layer.output_shape(shape)
            except ValueError as error:
                kind = type(layer).__name__.lower()
                raise ValueError(f"layers[{position}] ({kind}): {error}") from error
            self.parameter_shapes |= {f"{position}.{name}": own[name] for name in own}
            self.parameter_roles |= {f"{position}.{name}": roles[name] for name in own}
            self.state_shapes |= {f"{position}.{name}": state[name] for name in state}
            self._names.append(tuple(own))
            self._state_names.append(tuple(state))
        self._all_names = [a + b for a, b in zip(self._names, self._state_names, strict=True)]
        self.tensor_shapes = self.parameter_shapes | self.state_shapes
        self.freezes = freezes
        self.frozen_state = frozen_state(self.parameter_shapes, self.state_shapes, freezes)
        self.meets = any(isinstance(layer, BatchLayer) for layer in self.layers)
        self.output_shape = shape
        loss.check_output(shape)
        self.metric_sizes = tuple(metric.size(shape) for metric in self.metrics)
        first = next((i for i, names in enumerate(self._names) if names), len(self.layers))
        self._workspaces: list[list[Workspace]] = []
        self._first = first
        self._loss_workspaces: list[Workspace] = []
        self._views: dict[int, tuple[Mapping[str, Array], list[Views]]] = {}
        self.prediction: Array = np.empty((0, *shape), self.dtype)

    def initialize(self, parameters: Parameters, seed: int) -> None:
        """Draw every parameter; what is drawn depends on the seed and the position only."""
        for position, layer in enumerate(self.layers):
            rng = keyed_generator(seed, "initialize", position)
            layer.initialize(self._layer_views(parameters)[position], rng)

    def forward(self, parameters: Parameters, x: Array) -> Array:
        """The outputs, shape (batch, *output_shape), in planned memory: copy to keep them.

        x: (batch, *input_shape), of the model's dtype. As in evaluation: nothing is dropped,
        and running statistics are used.
        """
        views = self._layer_views(parameters)
        for layer, own, workspace in zip(self.layers, views, self._planned(0), strict=True):
            workspace.training = False
            x, _ = layer.forward(own, x, workspace)
        self.prediction = x
        return x

    def forward_backward(
        self,
        parameters: Parameters,
        gradients: Parameters,
        x: Array,
        target: Array,
        weight: Array | None = None,
    ) -> float:
        """``train`` for samples that are a whole mini-batch; returns the loss's sum."""
        return alone(self.train(parameters, gradients, Piece(x, target, weight))).loss

    def train(
        self, parameters: Parameters, gradients: Parameters, piece: Piece
    ) -> Meeting[PieceSums]:
        """Write the gradient of the loss's *sum* over a piece into ``gradients``.

        Stops where the pieces of a mini-batch meet, which happens in some layers only. The
        outputs stay in ``prediction``, for metrics.
        """
        prediction, backwards = yield from self._forward(parameters, piece)
        weight = self.loss.sample_weights(piece.target, piece.weight)
        loss, dy = self.loss.evaluate(
            prediction, piece.target, weight, self._loss_workspaces[piece.number]
        )
        yield from self._backward(dy, backwards, gradients, piece.ready)
        self.prediction = prediction
        total = self.weight_sum(piece.target, piece.weight)
        return PieceSums(loss, total, prediction)

    def loss_sum(self, target: Array, weight: Array | None = None) -> float:
        """The loss's sum for the outputs in ``prediction``, without a gradient."""
        loss, _ = self.loss.evaluate(
            self.prediction,
            target,
            self.loss.sample_weights(target, weight),
            self._loss_workspaces[0],
            with_gradient=False,
        )
        return loss

    def weight_sum(self, target: Array, weight: Array | None = None) -> float:
        """The sum of the effective weights, by which the loss's sum is divided."""
        effective = self.loss.sample_weights(target, weight)
        return float(len(target)) if effective is None else float(effective.sum())

    def metric_sums(
        self, prediction: Array, target: Array, weight: Array | None, out: Array
    ) -> None:
        """Add every metric's sums to its run of ``out``, shape (sum of metric_sizes,)."""
        start = 0
        for metric, size in zip(self.metrics, self.metric_sizes, strict=True):
            metric.accumulate(prediction, target, weight, out[start : start + size])
            start += size

    def metric_values(self, sums: Array) -> list[dict[str, float]]:
        """Every metric's figures, see ``Metric.values``, from the sums over all samples."""
        values, start = [], 0
        for metric, size in zip(self.metrics, self.metric_sizes, strict=True):
            values.append(metric.values(sums[start : start + size]))
            start += size
        return values

    def _forward(
        self, parameters: Parameters, piece: Piece
    ) -> Meeting[tuple[Array, list[Backward | MeetingBackward]]]:
        x = piece.x
        backwards: list[Backward | MeetingBackward] = []
        views = self._layer_views(parameters)
        state = None if piece.new_state is None else self._state_views(piece.new_state)
        for position, workspace in enumerate(self._planned(piece.number)):
            layer, own = self.layers[position], views[position]
            workspace.training, workspace.random = True, piece.random
            workspace.update_state(None if state is None else state[position])
            x, backward = yield from forward_of(layer, own, x, workspace)
            backwards.append(backward)
        return x, backwards

    def _backward(
        self,
        dy: Array | None,
        backwards: Sequence[Backward | MeetingBackward],
        gradients: Parameters,
        ready: Callable[[int], None] | None,
    ) -> Meeting[None]:
        views = self._gradient_views(gradients)
        for position in range(len(self.layers) - 1, self._first - 1, -1):
            if dy is None:
                raise AssertionError(f"layers[{position + 1}] returned no input gradient")
            dy = yield from backward_of(backwards[position], dy, views[position])
            if ready is not None and self._names[position]:
                name = f"{position}.{self._names[position][0]}"
                ready(gradients.slices[name].start)

    def _planned(self, number: int) -> list[Workspace]:
        """The buffers of the piece with this number."""
        while len(self._workspaces) <= number:
            self._workspaces.append(
                [
                    Workspace(
                        self.dtype,
                        needs_input_gradient=position > self._first,
                        place=str(position),
                        frozen=names_within(self.frozen_state, str(position)),
                    )
                    for position in range(len(self.layers))
                ]
            )
            self._loss_workspaces.append(Workspace(self.dtype))
        return self._workspaces[number]

    def _layer_views(self, parameters: Parameters) -> list[Views]:
        """Each layer's own parameters and state."""
        return self._split(parameters, self._all_names)

    def _gradient_views(self, gradients: Parameters) -> list[Views]:
        return self._split(gradients, self._names)

    def _state_views(self, state: Parameters) -> list[Views]:
        return self._split(state, self._state_names)

    def _split(self, parameters: Parameters, names: Sequence[tuple[str, ...]]) -> list[Views]:
        """Each layer's own views, looked up once for each set of parameters."""
        cached = self._views.get(id(parameters))
        if cached is not None and cached[0] is parameters.views:
            return cached[1]
        views: list[Views] = [
            {name: parameters[f"{position}.{name}"] for name in own}
            for position, own in enumerate(names)
        ]
        self._views[id(parameters)] = (parameters.views, views)
        return views


def frozen_state(
    parameters: Iterable[str], state: Iterable[str], freezes: Callable[[str], bool]
) -> frozenset[str]:
    """The running statistics that stay as they are, by name.

    Those of a layer are frozen together: if one of them is, or all of the layer's parameters.
    """
    parameters, state = tuple(parameters), tuple(state)
    frozen = {_owner(name) for name in state if freezes(name)}
    trained = {_owner(name) for name in parameters if not freezes(name)}
    frozen |= {_owner(name) for name in parameters} - trained
    return frozenset(name for name in state if _owner(name) in frozen)


def _owner(name: str) -> str:
    """The layer that a name belongs to."""
    return name.rpartition(".")[0]
