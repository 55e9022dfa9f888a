"""The Huber loss: squared for small errors, absolute for large ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Shape, Workspace
from dbp.nn.loss import Loss
from dbp.nn.rowwise import check_not_empty, sum_of_rows, weigh
from dbp.registry import option


@final
@dataclass(frozen=True)
class Huber(Loss):
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), with the error d = y - t.

    Averaged over a sample's output features, summed over samples; divided by the number of
    samples it equals ``torch.nn.HuberLoss`` (Huber 1964, "Robust Estimation of a
    Location Parameter").
    """

    delta: float = option(1.0, doc="error size above which the loss grows linearly", above=0)

    def target_kind(self) -> str:
        return "values"

    def check_output(self, output_shape: Shape) -> None:
        check_not_empty("huber", output_shape)

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
        error = workspace.array("error", prediction.shape)
        np.subtract(prediction, target.reshape(prediction.shape), out=error)
        slope = workspace.array("slope", prediction.shape)
        np.clip(error, -self.delta, self.delta, out=slope)
        # Both cases in one: with the slope s = clip(d), the loss is s (d - s / 2).
        terms = workspace.array("terms", prediction.shape)
        np.multiply(slope, -0.5, out=terms)
        terms += error
        terms *= slope
        loss = sum_of_rows(terms, weight)
        if not with_gradient:
            return loss, None
        return loss, weigh(slope, weight)

    def activate(self, prediction: Array) -> Array:
        return prediction
