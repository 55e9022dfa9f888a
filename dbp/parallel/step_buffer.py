"""What one step exchanges: the gradients and, behind them, a few sums, in one vector.

The tail has the gradients' type. In float32 counts are exact up to 2**24 samples a
mini-batch; flags are counts of the ranks or lanes that raised them.
"""

from __future__ import annotations

from typing import Final, final

import numpy as np
import numpy.typing as npt

from dbp.parallel.communicator import Buffer

# Behind the gradients and the metric sums.
LOSS: Final = 0
WEIGHT: Final = 1
NON_FINITE: Final = 2
STOP: Final = 3
FIXED: Final = 4


@final
class StepBuffer:
    """Named places in one vector: gradients, metric sums, loss, weight and flags."""

    def __init__(self, vector: Buffer, gradient_size: int, metric_size: int) -> None:
        """``vector`` may be longer than needed: the rest is padding."""
        tail = gradient_size + metric_size
        self.vector = vector
        self.gradients = vector[:gradient_size]
        self.metrics = vector[gradient_size:tail]
        self._tail = vector[tail : tail + FIXED]

    @staticmethod
    def size(gradient_size: int, metric_size: int) -> int:
        """Elements needed."""
        return gradient_size + metric_size + FIXED

    @classmethod
    def allocate(
        cls, gradient_size: int, metric_size: int, *, dtype: npt.DTypeLike, multiple: int = 1
    ) -> StepBuffer:
        """A zeroed buffer whose length is a multiple of ``multiple``."""
        size = cls.size(gradient_size, metric_size)
        return cls(np.zeros(size + -size % multiple, dtype), gradient_size, metric_size)

    def clear_sums(self) -> None:
        """Zero everything behind the gradients, which are written, never added to."""
        self.metrics[:] = 0
        self._tail[:] = 0

    @property
    def loss(self) -> float:
        """Weighted sum of the losses."""
        return float(self._tail[LOSS])

    @loss.setter
    def loss(self, value: float) -> None:
        self._tail[LOSS] = value

    @property
    def weight(self) -> float:
        """Sum of the samples' weights."""
        return float(self._tail[WEIGHT])

    @weight.setter
    def weight(self, value: float) -> None:
        self._tail[WEIGHT] = value

    @property
    def non_finite(self) -> float:
        """How many pieces had a loss or a gradient that is not finite."""
        return float(self._tail[NON_FINITE])

    @non_finite.setter
    def non_finite(self, value: float) -> None:
        self._tail[NON_FINITE] = value

    @property
    def stop(self) -> float:
        """How many ranks ask for a stop."""
        return float(self._tail[STOP])

    @stop.setter
    def stop(self, value: float) -> None:
        self._tail[STOP] = value
