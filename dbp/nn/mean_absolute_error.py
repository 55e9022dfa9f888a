"""The mean absolute error as a metric, in the unit of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Shape
from dbp.nn.metric import Metric


@final
@dataclass(frozen=True)
class MeanAbsoluteError(Metric):
    """|y - t|, averaged over output features and samples."""

    def target_kind(self) -> str:
        return "values"

    def activation(self) -> str:
        return ""

    def size(self, output_shape: Shape) -> int:
        return 2

    def accumulate(
        self, prediction: Array, target: Array, weight: Array | None, sums: Array
    ) -> None:
        if len(prediction) == 0:
            return
        error = np.abs(prediction - target.reshape(prediction.shape))
        means = error.reshape(len(error), -1).mean(axis=1)
        if weight is None:
            sums += (means.sum(), len(means))
        else:
            sums += (means @ weight, weight.sum())

    def value(self, sums: Array) -> float:
        return float(sums[0] / sums[1]) if sums[1] else float("nan")

    def higher_is_better(self) -> bool:
        return False
