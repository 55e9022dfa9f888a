"""Poisson loss, for counts; the output is the logarithm of the predicted rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import UNLIMITED, Array, Range, Shape, Workspace
from dbp.nn.loss import Loss
from dbp.nn.rowwise import check_not_empty, sum_of_rows, weigh


@final
@dataclass(frozen=True)
class Poisson(Loss):
    """exp(y) - t y, averaged over a sample's output features, summed over samples.

    The negative log-likelihood of the count t at the rate exp(y), without the constant
    log(t!), as in ``torch.nn.PoissonNLLLoss(log_input=True, full=False)``.
    """

    def target_kind(self) -> str:
        return "values"

    def check_output(self, output_shape: Shape) -> None:
        check_not_empty("poisson", output_shape)

    def target_range(self) -> tuple[float, float]:
        return 0.0, math.inf

    def activation(self) -> str:
        return "exponential"

    def needed_range(self, output_shape: Shape) -> Range:
        return UNLIMITED

    def default_metrics(self) -> tuple[str, ...]:
        """None: metrics of values would read the outputs, logarithms, as values."""
        return ()

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
        t = target.reshape(prediction.shape)
        rate = workspace.array("rate", prediction.shape)
        terms = workspace.array("terms", prediction.shape)
        np.exp(prediction, out=rate)
        np.multiply(prediction, t, out=terms)
        np.subtract(rate, terms, out=terms)
        loss = sum_of_rows(terms, weight)
        if not with_gradient:
            return loss, None
        rate -= t
        return loss, weigh(rate, weight)

    def activate(self, prediction: Array) -> Array:
        rate: Array = np.exp(prediction)
        return rate
