"""A loss on values: the logarithm of the hyperbolic cosine of the error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.plugin import Array, Loss, Shape, Workspace


@final
@dataclass(frozen=True)
class LogCosh(Loss):
    """log cosh(y - t): half the square of small errors, the magnitude of large ones.

    The mean over a sample's output features, the sum over samples.
    """

    def target_kind(self) -> str:
        """Values, shaped like the output."""
        return "values"

    def check_output(self, output_shape: Shape) -> None:
        """Any output that is not empty."""
        if math.prod(output_shape) < 1:
            raise ValueError(f"log_cosh needs an output, got shape {output_shape}")

    def default_metrics(self) -> tuple[str, ...]:
        """The mean absolute error, which has the target's unit."""
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
        """See Loss; target: (batch, *output_shape). d/dy log cosh(y - t) = tanh(y - t)."""
        features = math.prod(prediction.shape[1:])
        error = workspace.array("error", prediction.shape)
        np.subtract(prediction, target.reshape(prediction.shape), out=error)
        terms = workspace.array("terms", prediction.shape)
        # log cosh d = log((e^d + e^-d) / 2), and logaddexp never overflows.
        np.negative(error, out=terms)
        np.logaddexp(error, terms, out=terms)
        terms -= math.log(2)
        rows = terms.reshape(len(terms), features).sum(axis=1)
        loss = float(rows.sum() if weight is None else rows @ weight) / features
        if not with_gradient:
            return loss, None
        np.tanh(error, out=error)
        error /= features
        if weight is not None:
            error *= weight.reshape(-1, *(1,) * (error.ndim - 1))
        return loss, error

    def activate(self, prediction: Array) -> Array:
        """The values as they are."""
        return prediction
