"""Sigmoid and cross-entropy of a single output, a loss for two classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import UNLIMITED, Array, Range, Shape, Workspace
from dbp.nn.logistic import cross_entropy_terms, stable_sigmoid
from dbp.nn.loss import Loss
from dbp.nn.rowwise import sum_of_rows, weigh


@final
@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """-log s(z) for class 1, -log s(-z) for class 0; s is the sigmoid, z the single logit.

    Divided by the number of samples it equals ``torch.nn.BCEWithLogitsLoss`` with targets 0
    and 1. Numerically stable for any logit.
    """

    def target_kind(self) -> str:
        return "class"

    def check_output(self, output_shape: Shape) -> None:
        if output_shape != (1,):
            raise ValueError(
                f"binary_cross_entropy needs an output of shape (1,), got {output_shape}"
            )

    def activation(self) -> str:
        return "sigmoid"

    def needed_range(self, output_shape: Shape) -> Range:
        return UNLIMITED

    def default_metrics(self) -> tuple[str, ...]:
        return ("accuracy",)

    def evaluate(
        self,
        prediction: Array,
        target: Array,
        weight: Array | None,
        workspace: Workspace,
        *,
        with_gradient: bool = True,
    ) -> tuple[float, Array | None]:
        """``prediction``: (batch, 1) logits; ``target``: (batch,) zeros and ones."""
        t = workspace.array("target", prediction.shape)
        t[:, 0] = target
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
