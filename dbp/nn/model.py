"""The model: a sequence of layers, a loss and metrics, with forward and backward passes.

It owns preallocated buffers and nothing else: parameters and gradients are arguments. The flat
vector holds the parameters first, then the layers' state (running statistics).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final, overload
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from dbp.nn.input_gradient import checked_gradient
from dbp.nn.joint_layer import JointBackward, JointGradients, JointLayer, joins_lanes
from dbp.nn.lane_batch import LaneBatch, ModelBackward
from dbp.nn.layer import Array, Backward, Layer, Shape, Views, Workspace, names_within
from dbp.nn.loss import Loss
from dbp.nn.metric import Metric
from dbp.nn.parameters import Parameters
from dbp.nn.role import Role, frozen_state
from dbp.nn.row_product import RowProduct
from dbp.random import keyed_generator


@final
class Model:
    """Layers, a loss and metrics; names are ``<position>.<name>`` as in PyTorch.

    ``joins_lanes``: whether one pass can compute several lanes; see ``Layer.row_products``.
    """

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
        """Compose the shapes; raise ValueError naming the layer that does not fit.

        ``freezes`` returns whether training leaves the parameter or the running statistic of
        this name unchanged.
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
        self._shapes: list[Shape] = []  # of the outputs
        self.row_products: list[Mapping[str, RowProduct] | None] = []  # by layer
        shape = input_shape
        for position, layer in enumerate(self.layers):
            try:
                own, state = layer.parameter_shapes(shape), layer.state_shapes(shape)
                roles = layer.parameter_roles(shape)
                self.row_products.append(layer.row_products(shape))
                shape = layer.output_shape(shape)
            except ValueError as error:
                kind = type(layer).__name__.lower()
                raise ValueError(f"layers[{position}] ({kind}): {error}") from error
            self._shapes.append(shape)
            self.parameter_shapes |= {f"{position}.{name}": own[name] for name in own}
            self.parameter_roles |= {f"{position}.{name}": roles[name] for name in own}
            self.state_shapes |= {f"{position}.{name}": state[name] for name in state}
            self._names.append(tuple(own))
            self._state_names.append(tuple(state))
        self._all_names = [a + b for a, b in zip(self._names, self._state_names, strict=True)]
        self.tensor_shapes = self.parameter_shapes | self.state_shapes
        self.freezes = freezes
        self.frozen_state = frozen_state(self.parameter_shapes, self.state_shapes, freezes)
        self.joins_lanes = joins_lanes(self.layers, [input_shape, *self._shapes])
        self.has_sync_points = any(layer.has_sync_points for layer in self.layers)
        self.output_shape = shape
        loss.check_output(shape)
        self.metric_sizes = tuple(metric.size(shape) for metric in self.metrics)
        first = next((i for i, names in enumerate(self._names) if names), len(self.layers))
        for position, products in enumerate(self.row_products[: first + 1]):
            if products is not None:  # no dx is needed up to the first layer with parameters
                needed = {name: one for name, one in products.items() if not one.for_dx}
                self.row_products[position] = needed
        self._workspaces: list[list[Workspace]] = []
        self._first = first
        self._loss_workspaces: list[Workspace] = []
        self._views: WeakKeyDictionary[Parameters, list[Views]] = WeakKeyDictionary()
        self.prediction: Array = np.empty((0, *shape), self.dtype)

    def initialize(self, parameters: Parameters, seed: int) -> None:
        """Draw all parameters; a layer's draws depend only on the seed and its position."""
        for position, layer in enumerate(self.layers):
            rng = keyed_generator(seed, "initialize", position)
            layer.initialize(self._layer_views(parameters)[position], rng)

    def forward(self, parameters: Parameters, x: Array) -> Array:
        """Return the outputs in evaluation mode, (batch, *output_shape).

        x: (batch, *input_shape), of the model's dtype. Dropout is off, and running statistics
        are used. The next call reuses the memory of the result: copy it to keep it.
        """
        views = self._layer_views(parameters)
        for layer, own, workspace in zip(self.layers, views, self._planned(0), strict=True):
            workspace.training, workspace.lanes = False, ()
            y, _ = layer.forward(own, x, workspace)
            x = np.ascontiguousarray(y)
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
        """Differentiate the loss of a whole mini-batch; return its sum over the samples.

        Writes the gradient of that sum; the outputs stay in ``prediction``.
        """
        batch = LaneBatch(x, target, weight)
        self.prediction, backward = self.forward_training(parameters, batch)
        loss, _, dy = self.loss_gradient(self.prediction, batch)
        backward(dy, gradients)
        return loss

    def forward_training(
        self, parameters: Parameters, batch: LaneBatch
    ) -> tuple[Array, ModelBackward]:
        """Return the outputs in training mode, and the backward pass.

        ``batch`` is the whole mini-batch if a layer has sync points. The next call with the
        same ``batch.number`` reuses the memory of the outputs.
        """
        x = batch.x
        backwards: list[Backward | JointBackward] = []
        for layer, own, workspace in self.prepared(parameters, batch):
            backward_layer: Backward | JointBackward
            if batch.lanes and isinstance(layer, JointLayer):
                y, backward_layer = layer.forward_joint(own, x, workspace)
            else:
                y, backward_layer = layer.forward(own, x, workspace)
            x = np.ascontiguousarray(y)
            backwards.append(backward_layer)

        def backward(
            dy: Array | None,
            gradients: Parameters | JointGradients,
            on_ready: Callable[[int], None] | None = None,
        ) -> None:
            for position, own in self.backward_order(gradients):
                dy = backwards[position](self.checked(dy, position), own)
                if on_ready is not None and self._names[position]:
                    name = f"{position}.{self._names[position][0]}"
                    on_ready(gradients.slices[name].start)

        return x, backward

    def lane_losses(
        self, prediction: Array, batch: LaneBatch
    ) -> tuple[list[tuple[float, float]], Array | None]:
        """Return the sums of loss and weight of each lane of the batch; the loss's gradient."""
        if not batch.lanes:
            loss, weight_sum, dy = self.loss_gradient(prediction, batch)
            return [(loss, weight_sum)], dy
        weight = self.loss.sample_weights(batch.target, batch.weight)
        losses, dy = self.loss.evaluate_lanes(
            prediction, batch.target, weight, self._loss_workspaces[batch.number], batch.lanes
        )
        if weight is None:
            weights = [float(lane.stop - lane.start) for lane in batch.lanes]
        else:
            weights = [float(weight[lane].sum()) for lane in batch.lanes]
        return list(zip(losses, weights, strict=True)), dy

    def loss_gradient(
        self, prediction: Array, batch: LaneBatch
    ) -> tuple[float, float, Array | None]:
        """Return sums over the samples: the loss and the weight; and the loss's gradient."""
        weight = self.loss.sample_weights(batch.target, batch.weight)
        loss, dy = self.loss.evaluate(
            prediction, batch.target, weight, self._loss_workspaces[batch.number]
        )
        return loss, float(len(batch.target)) if weight is None else float(weight.sum()), dy

    def prepared(
        self, parameters: Parameters, batch: LaneBatch
    ) -> Iterator[tuple[Layer, Views, Workspace]]:
        """Yield each layer with its parameters and its workspace, set for this pass."""
        views = self._layer_views(parameters)
        state = None if batch.new_state is None else self._state_views(batch.new_state)
        for position, workspace in enumerate(self._planned(batch.number)):
            workspace.training, workspace.random = True, batch.random
            workspace.lanes = batch.lanes
            workspace.joined = batch.joined[position] if batch.joined else ()
            workspace.update_state(None if state is None else state[position])
            yield self.layers[position], views[position], workspace

    @overload
    def backward_order(self, gradients: Parameters) -> Iterator[tuple[int, Views]]: ...
    @overload
    def backward_order(
        self, gradients: Parameters | JointGradients
    ) -> Iterator[tuple[int, Any]]: ...
    def backward_order(
        self, gradients: Parameters | JointGradients
    ) -> Iterator[tuple[int, Any]]:
        """Yield the position and the gradients of each layer to pass, from the last on."""
        if isinstance(gradients, JointGradients):
            views: Sequence[Any] = gradients.of_layers(len(self.layers))
        else:
            views = self._gradient_views(gradients)
        for position in range(len(self.layers) - 1, self._first - 1, -1):
            yield position, views[position]

    def checked(self, dy: Array | None, position: int) -> Array:
        """Return the gradient of this layer's outputs; raise ValueError if it has none."""
        return checked_gradient(dy, self._shapes[position], self.layers, position, self.loss)

    def loss_sum(self, target: Array, weight: Array | None = None) -> float:
        """Return the sum of the loss for the outputs in ``prediction``."""
        loss, _ = self.loss.evaluate(
            self.prediction,
            target,
            self.loss.sample_weights(target, weight),
            self._loss_workspaces[0],
            with_gradient=False,
        )
        return loss

    def weight_sum(self, target: Array, weight: Array | None = None) -> float:
        """Return the sum of the effective sample weights, by which the step divides."""
        effective = self.loss.sample_weights(target, weight)
        return float(len(target)) if effective is None else float(effective.sum())

    def metric_sums(
        self, prediction: Array, target: Array, weight: Array | None, out: Array
    ) -> None:
        """Add every metric's sums to its slice of ``out``, shape (sum of metric_sizes,)."""
        start = 0
        for metric, size in zip(self.metrics, self.metric_sizes, strict=True):
            metric.accumulate(prediction, target, weight, out[start : start + size])
            start += size

    def metric_values(self, sums: Array) -> list[dict[str, float]]:
        """Return ``Metric.values`` of every metric, from the sums over all samples."""
        values, start = [], 0
        for metric, size in zip(self.metrics, self.metric_sizes, strict=True):
            values.append(metric.values(sums[start : start + size]))
            start += size
        return values

    def _planned(self, number: int) -> list[Workspace]:
        """Return the workspaces of all layers for the lane batch with this number."""
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
        """Return each layer's own parameters and state."""
        return self._split(parameters, self._all_names)

    def _gradient_views(self, gradients: Parameters) -> list[Views]:
        return self._split(gradients, self._names)

    def _state_views(self, state: Parameters) -> list[Views]:
        return self._split(state, self._state_names)

    def _split(self, parameters: Parameters, names: Sequence[tuple[str, ...]]) -> list[Views]:
        """Return each layer's own views; kept as long as the parameters."""
        views = self._views.get(parameters)
        if views is None:
            views = self._views[parameters] = [
                {name: parameters[f"{position}.{name}"] for name in own}
                for position, own in enumerate(names)
            ]
        return views
