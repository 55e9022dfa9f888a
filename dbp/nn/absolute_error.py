"""The absolute error, a loss in which large errors do not dominate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Shape, Workspace
from dbp.nn.loss import Loss
from dbp.nn.rowwise import check_not_empty, sum_of_rows, weigh


@final
@dataclass(frozen=True)
class AbsoluteError(Loss):
    """|y - t|, averaged over a sample's output features, summed over samples.

    Divided by the number of samples it equals ``torch.nn.L1Loss``; where y = t the gradient
    is 0.
    """

    def target_kind(self) -> str:
        return "values"

    def check_output(self, output_shape: Shape) -> None:
        check_not_empty("mean_absolute_error", output_shape)

    def default_metrics(self) -> tuple[str, ...]:
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
        size = workspace.array("size", prediction.shape)
        loss = sum_of_rows(np.abs(error, out=size), weight)
        if not with_gradient:
            return loss, None
        return loss, weigh(np.sign(error, out=error), weight)

    def activate(self, prediction: Array) -> Array:
        return prediction
