"""Top-k accuracy: the share of samples whose class is among the k largest outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.classes import share
from dbp.nn.layer import Array, Shape
from dbp.nn.metric import Metric
from dbp.registry import option


@final
@dataclass(frozen=True)
class TopKAccuracy(Metric):
    """Weight of samples whose class has one of the ``k`` largest outputs / weight of all.

    Among equal outputs the higher class number counts as larger, as in scikit-learn.
    """

    k: int = option(5, doc="number of classes predicted for a sample", minimum=1)

    def target_kind(self) -> str:
        return "class"

    def size(self, output_shape: Shape) -> int:
        outputs = math.prod(output_shape)
        if self.k >= outputs:
            raise ValueError(
                f"k: must be less than the number of outputs ({outputs}), got {self.k}"
            )
        return 2

    def accumulate(
        self, prediction: Array, target: Array, weight: Array | None, sums: Array
    ) -> None:
        """``prediction``: (batch, outputs); ``target``: (batch,) class numbers."""
        own = np.take_along_axis(prediction, target[:, None].astype(np.int64), axis=1)
        later = np.arange(prediction.shape[1]) > target[:, None]
        before = (prediction > own) | ((prediction == own) & later)
        right = before.sum(axis=1) < self.k
        if weight is None:
            sums += (np.count_nonzero(right), len(target))
        else:
            sums += (weight[right].sum(), weight.sum())

    def value(self, sums: Array) -> float:
        return share(sums[0], sums[1])

    def higher_is_better(self) -> bool:
        return True
