"""The hinge loss, which separates classes by a margin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from dbp.nn.layer import Array, Range, Shape, Workspace
from dbp.nn.loss import Loss


@final
@dataclass(frozen=True)
class Hinge(Loss):
    """max(0, 1 - s y) of a single output y, with s = -1 for class 0 and +1 for class 1.

    With several outputs y, the sum over the classes c other than the sample's class t of
    max(0, 1 - y_t + y_c) (Weston and Watkins 1999): the mean over samples is that of
    ``torch.nn.MultiMarginLoss`` times the number of classes, by which PyTorch divides.
    """

    gives_probabilities: ClassVar[bool] = False

    def target_kind(self) -> str:
        return "class"

    def check_output(self, output_shape: Shape) -> None:
        if len(output_shape) != 1 or math.prod(output_shape) < 1:
            raise ValueError(
                f"hinge needs an output of shape (1,) or (classes,), got {output_shape}"
            )

    def needed_range(self, output_shape: Shape) -> Range:
        """Up to the margin on both sides of 0; several scores count by their differences."""
        return (-1.0, 1.0) if output_shape == (1,) else (0.0, 1.0)

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
        """``prediction``: (batch, outputs) scores; ``target``: (batch,) class numbers."""
        rows = np.arange(len(prediction))
        margin = workspace.array("margin", prediction.shape)
        single = prediction.shape[1] == 1
        if single:
            sign = np.where(target == 1, 1, -1).astype(prediction.dtype)[:, None]
            np.multiply(prediction, -sign, out=margin)
        else:
            np.subtract(prediction, prediction[rows, target][:, None], out=margin)
        margin += 1
        np.maximum(margin, 0, out=margin)
        if not single:
            margin[rows, target] = 0
        losses = margin.sum(axis=1)
        loss = float(losses.sum() if weight is None else losses @ weight)
        if not with_gradient:
            return loss, None
        np.sign(margin, out=margin)
        if single:
            margin *= -sign
        else:
            margin[rows, target] = -margin.sum(axis=1)
        if weight is not None:
            margin *= weight[:, None]
        return loss, margin

    def activate(self, prediction: Array) -> Array:
        return prediction
