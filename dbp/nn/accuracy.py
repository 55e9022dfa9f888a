"""Accuracy: the share of samples whose class is predicted correctly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.classes import classes_of
from dbp.nn.layer import Array, Shape
from dbp.nn.metric import Metric


@final
@dataclass(frozen=True)
class Accuracy(Metric):
    """Weight of the correctly classified samples, divided by the weight of all.

    The predicted class is that of the largest output; with a single output, class 1 if it is
    above 0.
    """

    def target_kind(self) -> str:
        return "class"

    def size(self, output_shape: Shape) -> int:
        return 2

    def accumulate(
        self, prediction: Array, target: Array, weight: Array | None, sums: Array
    ) -> None:
        """``prediction``: (batch, outputs); ``target``: (batch,) class numbers."""
        if len(prediction) == 0:
            return
        right = classes_of(prediction) == target
        if weight is None:
            sums += (np.count_nonzero(right), len(target))
        else:
            sums += (weight[right].sum(), weight.sum())

    def value(self, sums: Array) -> float:
        return float(sums[0] / sums[1]) if sums[1] else float("nan")

    def higher_is_better(self) -> bool:
        return True
