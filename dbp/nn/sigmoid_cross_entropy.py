"""Sigmoid and cross-entropy in one, a loss for labels that do not exclude each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import UNLIMITED, Array, Range, Shape, Workspace
from dbp.nn.logistic import cross_entropy_terms, stable_sigmoid
from dbp.nn.loss import Loss
from dbp.nn.rowwise import check_not_empty, sum_of_rows, weigh


@final
@dataclass(frozen=True)
class SigmoidCrossEntropy(Loss):
    """-t log s(z) - (1 - t) log(1 - s(z)) of logits z, targets t in [0, 1] and the sigmoid s.

    Averaged over a sample's outputs, summed over samples; divided by the number of samples it
    equals ``torch.nn.BCEWithLogitsLoss``. Numerically stable for any logits, in the form
    max(z, 0) - z t + log(1 + exp(-|z|)).
    """

    def target_kind(self) -> str:
        return "values"

    def check_output(self, output_shape: Shape) -> None:
        check_not_empty("sigmoid_cross_entropy", output_shape)

    def target_range(self) -> tuple[float, float]:
        return 0.0, 1.0

    def activation(self) -> str:
        return "sigmoid"

    def needed_range(self, output_shape: Shape) -> Range:
        return UNLIMITED

    def default_metrics(self) -> tuple[str, ...]:
        return ("binary_accuracy",)

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
        gradient = workspace.array("gradient", prediction.shape)
        terms = workspace.array("terms", prediction.shape)
        cross_entropy_terms(prediction, t, terms, gradient)
        loss = sum_of_rows(terms, weight)
        if not with_gradient:
            return loss, None
        stable_sigmoid(prediction, gradient)
        gradient -= t
        return loss, weigh(gradient, weight)

    def activate(self, prediction: Array) -> Array:
        p: Array = np.empty_like(prediction)
        stable_sigmoid(prediction, p)
        return p
