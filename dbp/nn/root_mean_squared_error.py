"""The metric root mean squared error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.nn.layer import Array, Shape
from dbp.nn.metric import Metric


@final
@dataclass(frozen=True)
class RootMeanSquaredError(Metric):
    """sqrt(mean of (prediction - target)^2) of each output, the mean over outputs."""

    def target_kind(self) -> str:
        return "values"

    def activation(self) -> str:
        return ""

    def size(self, output_shape: Shape) -> int:
        return 1 + math.prod(output_shape)

    def accumulate(
        self, prediction: Array, target: Array, weight: Array | None, sums: Array
    ) -> None:
        outputs = len(sums) - 1
        errors = (prediction - target.reshape(prediction.shape)).reshape(-1, outputs)
        own = np.ones(len(errors)) if weight is None else weight
        sums[0] += own.sum()
        sums[1:] += own @ np.square(errors.astype(np.float64))

    def value(self, sums: Array) -> float:
        return float(np.sqrt(sums[1:] / sums[0]).mean()) if sums[0] else float("nan")

    def higher_is_better(self) -> bool:
        return False
