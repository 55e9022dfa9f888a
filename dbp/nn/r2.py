"""The coefficient of determination."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from dbp.nn.layer import Array, Shape
from dbp.nn.metric import Metric

# Of the sum of squares: a variance below it has lost half of its digits to rounding.
LOST: Final = 1e-9


@final
@dataclass(frozen=True)
class R2(Metric):
    """1 - sum (t - y)^2 / sum (t - mean)^2 of each output, the mean over outputs.

    The variance comes from sums of t and t^2, which are exact over ranks. Of targets that do
    not vary, or whose mean is 30,000 times their spread, they cannot tell it: NaN then.
    """

    def target_kind(self) -> str:
        """Values, shaped like the output."""
        return "values"

    def size(self, output_shape: Shape) -> int:
        """The weight, and for each output the sums of t, t^2 and squared errors."""
        return 1 + 3 * math.prod(output_shape)

    def accumulate(
        self, prediction: Array, target: Array, weight: Array | None, sums: Array
    ) -> None:
        """See Metric."""
        rows = (len(prediction), (len(sums) - 1) // 3)
        true = target.reshape(rows).astype(np.float64)
        errors = true - prediction.reshape(rows)
        own = np.ones(len(true)) if weight is None else weight
        sums[0] += own.sum()
        moments = sums[1:].reshape(3, -1)
        for place, values in enumerate((true, np.square(true), np.square(errors))):
            moments[place] += own @ values

    def value(self, sums: Array) -> float:
        """At most 1; NaN where no sample was seen, or an output's targets do not vary."""
        weight = float(sums[0])
        if not weight:
            return float("nan")
        total, squares, errors = sums[1:].astype(np.float64).reshape(3, -1)
        spread = squares - total * total / weight
        if not (spread > LOST * squares).all():
            return float("nan")
        return float((1 - errors / spread).mean())

    def undefined_where(self) -> str:
        """See Metric."""
        return (
            "it needs two samples or more whose targets differ, by at least 1/30,000 of their "
            "mean, and finite outputs"
        )

    def higher_is_better(self) -> bool:
        """Yes."""
        return True
