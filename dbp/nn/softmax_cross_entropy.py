"""Softmax and cross-entropy in one: the loss of classification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Shape, Workspace
from dbp.nn.loss import Loss


@final
@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """-log softmax(z)_t of the logits z, t the class; gradient softmax(z) - onehot(t).

    Stable for any logits: the row's largest is subtracted first, which changes nothing.
    """

    def target_kind(self) -> str:
        """One integer per sample."""
        return "class"

    def check_output(self, output_shape: Shape) -> None:
        """One logit a class, two classes at least."""
        if len(output_shape) != 1 or output_shape[0] < 2:
            raise ValueError(
                f"softmax_cross_entropy needs an output of shape (classes,) with at least "
                f"2 classes, got {output_shape}"
            )

    def default_metrics(self) -> tuple[str, ...]:
        """Accuracy."""
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
        """See Loss; prediction: (batch, classes) logits, target: (batch,) integers."""
        rows = np.arange(len(prediction))
        p = workspace.array("gradient", prediction.shape)
        largest = prediction.max(axis=1, keepdims=True, initial=-np.inf)
        np.subtract(prediction, largest, out=p)
        shifted = p[rows, target]
        np.exp(p, out=p)
        total = p.sum(axis=1, keepdims=True)
        losses = np.log(total[:, 0]) - shifted
        loss = float(losses.sum() if weight is None else losses @ weight)
        if not with_gradient:
            return loss, None
        p /= total
        p[rows, target] -= 1
        if weight is not None:
            p *= weight[:, None]
        return loss, p

    def activate(self, prediction: Array) -> Array:
        """Probabilities: each row is not negative and sums to 1."""
        p: Array = np.exp(prediction - prediction.max(axis=1, keepdims=True, initial=-np.inf))
        p /= p.sum(axis=1, keepdims=True)
        return p
