"""The squared error, the usual loss of regression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Shape, Workspace
from dbp.nn.loss import Loss


@final
@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """(y - t)^2, averaged over a sample's output features, summed over samples.

    Divided by the number of samples it equals ``torch.nn.MSELoss``.
    """

    def target_kind(self) -> str:
        return "values"

    def check_output(self, output_shape: Shape) -> None:
        if math.prod(output_shape) < 1:
            raise ValueError(f"mean_squared_error needs an output, got shape {output_shape}")

    def default_metrics(self) -> tuple[str, ...]:
        """The mean absolute error, which has the unit of the target."""
        return ("mean_absolute_error",)

    def evaluate(
        self,
        prediction: Array,
        target: Array,
        weight: Array | None,
        workspace: Workspace,
        *,
        with_gradient: bool = True,
    ) -> tuple[float, Array | None]:
        """``target``: (batch, *output_shape), or (batch,) where the output is one value."""
        features = math.prod(prediction.shape[1:])
        difference = workspace.array("difference", prediction.shape)
        np.subtract(prediction, target.reshape(prediction.shape), out=difference)
        flat = difference.reshape(len(difference), features)
        if weight is None:
            loss = float(np.vdot(flat, flat)) / features
        else:
            loss = float(np.einsum("bf,bf,b->", flat, flat, weight)) / features
        if not with_gradient:
            return loss, None
        flat *= 2.0 / features
        if weight is not None:
            flat *= weight[:, None]
        return loss, difference

    def activate(self, prediction: Array) -> Array:
        return prediction
