"""The model: layers in a row, a loss behind them, metrics beside. Knows no ranks.

It owns the planned buffers and nothing else: parameters and gradients are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
import numpy.typing as npt

from dbp.nn.layer import Array, Backward, Layer, Shape, Views, Workspace
from dbp.nn.loss import Loss
from dbp.nn.metric import Metric
from dbp.nn.parameters import Parameters
from dbp.random import keyed_generator


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
    ) -> None:
        """Compose the shapes; raises ValueError naming the layer that does not fit."""
        self.layers = tuple(layers)
        self.input_shape = input_shape
        self.dtype = np.dtype(dtype)
        self.loss = loss
        self.metrics = tuple(metrics)
        self.parameter_shapes: dict[str, Shape] = {}
        self._names: list[tuple[str, ...]] = []
        shape = input_shape
        for position, layer in enumerate(self.layers):
            try:
                own, shape = layer.parameter_shapes(shape), layer.output_shape(shape)
            except ValueError as error:
                kind = type(layer).__name__.lower()
                raise ValueError(f"layers[{position}] ({kind}): {error}") from error
            self.parameter_shapes |= {f"{position}.{name}": own[name] for name in own}
            self._names.append(tuple(own))
        self.output_shape = shape
        loss.check_output(shape)
        self.metric_sizes = tuple(metric.size(shape) for metric in self.metrics)
        first = next((i for i, names in enumerate(self._names) if names), len(self.layers))
        self._workspaces = [
            Workspace(self.dtype, needs_input_gradient=position > first)
            for position in range(len(self.layers))
        ]
        self._first = first
        self._loss_workspace = Workspace(self.dtype)
        self._views: dict[int, tuple[Mapping[str, Array], list[Views]]] = {}
        self.prediction: Array = np.empty((0, *shape), self.dtype)

    def initialize(self, parameters: Parameters, seed: int) -> None:
        """Draw every parameter; what is drawn depends on the seed and the position only."""
        for position, layer in enumerate(self.layers):
            rng = keyed_generator(seed, "initialize", position)
            layer.initialize(self._layer_views(parameters)[position], rng)

    def forward(self, parameters: Parameters, x: Array, *, training: bool = False) -> Array:
        """The outputs, shape (batch, *output_shape), in planned memory: copy to keep them.

        x: (batch, *input_shape), of the model's dtype.
        """
        self.prediction, _ = self._forward(parameters, x, training=training)
        return self.prediction

    def forward_backward(
        self,
        parameters: Parameters,
        gradients: Parameters,
        x: Array,
        target: Array,
        weight: Array | None = None,
    ) -> float:
        """Write the gradient of the loss's *sum* into ``gradients``; returns that sum.

        The outputs stay in ``prediction``, for metrics.
        """
        self.prediction, backwards = self._forward(parameters, x, training=True)
        loss, dy = self.loss.evaluate(self.prediction, target, weight, self._loss_workspace)
        views = self._layer_views(gradients)
        for position in range(len(self.layers) - 1, self._first - 1, -1):
            if dy is None:
                break
            dy = backwards[position](dy, views[position])
        return loss

    def loss_sum(self, target: Array, weight: Array | None = None) -> float:
        """The loss's sum for the outputs in ``prediction``, without a gradient."""
        loss, _ = self.loss.evaluate(
            self.prediction, target, weight, self._loss_workspace, with_gradient=False
        )
        return loss

    def metric_sums(
        self, prediction: Array, target: Array, weight: Array | None, out: Array
    ) -> None:
        """Add every metric's sums to its run of ``out``, shape (sum of metric_sizes,)."""
        start = 0
        for metric, size in zip(self.metrics, self.metric_sizes, strict=True):
            metric.accumulate(prediction, target, weight, out[start : start + size])
            start += size

    def metric_values(self, sums: Array) -> list[float]:
        """Every metric's figure from the sums over all samples."""
        values, start = [], 0
        for metric, size in zip(self.metrics, self.metric_sizes, strict=True):
            values.append(metric.value(sums[start : start + size]))
            start += size
        return values

    def _forward(
        self, parameters: Parameters, x: Array, *, training: bool
    ) -> tuple[Array, list[Backward]]:
        backwards: list[Backward] = []
        views = self._layer_views(parameters)
        for layer, own, workspace in zip(self.layers, views, self._workspaces, strict=True):
            workspace.training = training
            x, backward = layer.forward(own, x, workspace)
            backwards.append(backward)
        return x, backwards

    def _layer_views(self, parameters: Parameters) -> list[Views]:
        """Each layer's own views, looked up once for each set of parameters."""
        cached = self._views.get(id(parameters))
        if cached is not None and cached[0] is parameters.views:
            return cached[1]
        views: list[Views] = [
            {name: parameters[f"{position}.{name}"] for name in names}
            for position, names in enumerate(self._names)
        ]
        self._views[id(parameters)] = (parameters.views, views)
        return views
