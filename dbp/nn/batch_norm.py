"""Batch normalization, with statistics over the whole mini-batch of all lanes and ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from dbp.nn.batch_layer import BatchLayer, LaneBackward, LaneGenerator
from dbp.nn.layer import Array, Shape, Views, Workspace
from dbp.nn.role import Role
from dbp.registry import option

LEAST_VALUES: Final = 2  # of a channel in a mini-batch, for a variance


@final
@dataclass(frozen=True)
class BatchNorm(BatchLayer):
    """y = (x - mean) / sqrt(variance + epsilon) * weight + bias, for each channel.

    x: (batch, channels, ...); mean and variance are over all samples of the mini-batch,
    without their weights, and over the positions after the channels. Evaluation uses running
    statistics, updated as in PyTorch: running <- (1 - momentum) running + momentum new, with
    the unbiased variance.

    A mini-batch with fewer than 2 values a channel has no variance: it is normalized with the
    running statistics, as in evaluation, and does not update them. The same holds for every
    mini-batch if the optimizer's ``frozen`` matches the running statistics, or weight and
    bias.

    Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
    Internal Covariate Shift", 2015. The lanes' means and squared deviations are merged as in
    Chan, Golub and LeVeque (1979), in the order of the lanes, so every rank gets the same
    bits.
    """

    epsilon: float = option(1e-5, doc="added to the variance", above=0.0)
    momentum: float = option(
        0.1,
        doc="weight of the newest statistics in the running statistics",
        minimum=0.0,
        maximum=1.0,
    )
    affine: bool = option(True, doc="whether weight and bias are learned")

    def output_shape(self, input_shape: Shape) -> Shape:
        if math.prod(input_shape) < 1 or not input_shape:
            raise ValueError(f"needs samples of shape (channels, ...), got {input_shape}")
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        channels = self.output_shape(input_shape)[:1]
        return {"weight": channels, "bias": channels} if self.affine else {}

    def parameter_roles(self, input_shape: Shape) -> dict[str, Role]:
        roles: dict[str, Role] = {"weight": "scale", "bias": "bias"}
        return {name: roles[name] for name in self.parameter_shapes(input_shape)}

    def state_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        channels = self.output_shape(input_shape)[:1]
        return {"running_mean": channels, "running_var": channels}

    def values_per_channel(self, input_shape: Shape) -> int:
        return math.prod(input_shape[1:])

    def initialize(self, parameters: Views, rng: np.random.Generator) -> None:
        if self.affine:
            parameters["weight"][...] = 1.0
            parameters["bias"][...] = 0.0
        parameters["running_mean"][...] = 0.0
        parameters["running_var"][...] = 1.0

    def forward_lane(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> LaneGenerator[tuple[Array, LaneBackward]]:
        channels = x.shape[1]
        rows = x.reshape(len(x), channels, math.prod(x.shape[2:]))
        count, mean, squares = 0.0, np.zeros(channels), np.zeros(channels)
        if workspace.training and "running_mean" not in workspace.frozen:
            gathered = yield _statistics(rows)
            count, mean, squares = _merged(gathered, channels)
        if count >= LEAST_VALUES:  # the same in all lanes, as are their sync points
            variance = squares / count
            if workspace.new_state is not None:
                _update_running(workspace.new_state, self.momentum, count, mean, squares)
        else:
            count = 0.0
            mean = parameters["running_mean"].astype(np.float64)
            variance = parameters["running_var"].astype(np.float64)
        inverse = (1 / np.sqrt(variance + self.epsilon)).astype(x.dtype)[:, None]
        normal = workspace.array("normal", rows.shape)
        np.subtract(rows, mean.astype(x.dtype)[:, None], out=normal)
        normal *= inverse
        y = self._scaled(parameters, normal, workspace)

        def backward(dy: Array, gradients: Views) -> LaneGenerator[Array | None]:
            dy = dy.reshape(rows.shape)
            product = workspace.array("product", rows.shape)
            np.multiply(dy, normal, out=product)
            own = np.stack(
                [dy.sum(axis=(0, 2), dtype="f8"), product.sum(axis=(0, 2), dtype="f8")]
            )
            if self.affine:
                gradients["bias"][...] = own[0]
                gradients["weight"][...] = own[1]
            gathered = (yield own.reshape(-1)) if count else None
            if not workspace.needs_input_gradient:
                return None
            dx = workspace.array("dx", rows.shape)
            if gathered is None:  # the running statistics do not depend on the inputs
                np.copyto(dx, dy)
            else:
                total = np.zeros_like(own)
                for lane in gathered:
                    total += lane.reshape(own.shape)
                means = (total / count).astype(x.dtype)[:, :, None]
                np.multiply(normal, means[1], out=product)
                product += means[0]
                np.subtract(dy, product, out=dx)
            dx *= inverse * parameters["weight"][:, None] if self.affine else inverse
            return dx.reshape(x.shape)

        return y.reshape(x.shape), backward

    def _scaled(self, parameters: Views, normal: Array, workspace: Workspace) -> Array:
        y = workspace.array("y", normal.shape)
        if self.affine:
            np.multiply(normal, parameters["weight"][:, None], out=y)
            y += parameters["bias"][:, None]
        else:
            np.copyto(y, normal)
        return y


def _statistics(rows: Array) -> Array:
    """Return count, means and squared deviations of one lane: (1 + 2 channels,), float64."""
    channels = rows.shape[1]
    out = np.zeros(1 + 2 * channels)
    count = rows.shape[0] * rows.shape[2]
    if count:
        mean = rows.mean(axis=(0, 2), dtype=np.float64)
        deviation = rows - mean[:, None]
        out[0] = count
        out[1 : 1 + channels] = mean
        out[1 + channels :] = np.square(deviation, out=deviation).sum(axis=(0, 2))
    return out


def _merged(lanes: Array, channels: int) -> tuple[float, Array, Array]:
    """Return count, mean and squared deviations over all lanes, merged in their order."""
    count, mean, squares = 0.0, np.zeros(channels), np.zeros(channels)
    for lane in lanes:
        if lane[0]:
            total = count + lane[0]
            delta = lane[1 : 1 + channels] - mean
            squares += lane[1 + channels :]
            squares += delta * delta * (count * lane[0] / total)
            mean += delta * (lane[0] / total)
            count = total
    return float(count), mean, squares


def _update_running(
    state: Views, momentum: float, count: float, mean: Array, squares: Array
) -> None:
    """Move the running statistics towards those of the mini-batch, in place."""
    unbiased = squares / (count - 1)
    for name, newest in (("running_mean", mean), ("running_var", unbiased)):
        state[name][...] = (1 - momentum) * state[name] + momentum * newest
