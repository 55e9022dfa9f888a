"""R^2, the coefficient of determination."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from dbp.nn.layer import Array, Shape
from dbp.nn.metric import Metric

# A variance below this share of the sum of squares has lost half of its digits to rounding, in
# float64 (evaluations), or in the sums that training exchanges in float32.
LOST: Final = 1e-9
LOST_IN_FLOAT32: Final = 1e-5


@final
@dataclass(frozen=True)
class R2(Metric):
    """1 - sum (t - y)^2 / sum (t - mean)^2 of each output, averaged over outputs.

    The variance is computed from sums of t and t^2, which are exact over ranks. The result is
    NaN if the targets do not vary, or if their mean is 30,000 times their spread (300 times in
    training in float32), where these sums are too imprecise.
    """

    def target_kind(self) -> str:
        return "values"

    def activation(self) -> str:
        return ""

    def size(self, output_shape: Shape) -> int:
        return 2 + 3 * math.prod(output_shape)

    def accumulate(
        self, prediction: Array, target: Array, weight: Array | None, sums: Array
    ) -> None:
        rows = (len(prediction), (len(sums) - 2) // 3)
        true = target.reshape(rows).astype(np.float64)
        errors = true - prediction.reshape(rows)
        own = np.ones(len(true)) if weight is None else weight
        sums[0] += own.sum()
        sums[1] += sums.dtype == np.float32
        moments = sums[2:].reshape(3, -1)
        for place, values in enumerate((true, np.square(true), np.square(errors))):
            moments[place] += own @ values

    def value(self, sums: Array) -> float:
        """At most 1; NaN without samples, or where the targets of an output do not vary."""
        weight = float(sums[0])
        if not weight:
            return float("nan")
        total, squares, errors = sums[2:].astype(np.float64).reshape(3, -1)
        spread = squares - total * total / weight
        lost = LOST_IN_FLOAT32 if sums[1] else LOST
        if not (spread > lost * squares).all():
            return float("nan")
        return float((1 - errors / spread).mean())

    def undefined_where(self) -> str:
        return (
            "it needs two samples or more whose targets differ, by at least 1/30,000 of their "
            "mean (1/300 in training in float32), and finite outputs"
        )

    def higher_is_better(self) -> bool:
        return True
