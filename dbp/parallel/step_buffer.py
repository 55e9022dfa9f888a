"""What one step exchanges: the gradients and, behind them, a few sums, in one vector.

The tail has the gradients' type. In float32 counts are exact up to 2**24 samples a
mini-batch; flags are counts of the ranks or lanes that raised them. At its end every rank has
a place of its own for the digest of its parameters, where the others add zeros.
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
CHECKPOINT: Final = 4
FINISH: Final = 5
UNREADABLE: Final = 6
FIXED: Final = 7

ALIGNED: Final = 16  # elements: a cache line of float32
DIGEST_WORDS: Final = 4  # of 16 bits each: exact in float32


@final
class StepBuffer:
    """Named places in one vector: gradients, metric sums, loss, weight and flags."""

    def __init__(
        self, vector: Buffer, gradient_size: int, metric_size: int, ranks: int
    ) -> None:
        """``vector`` may be longer than needed: the rest is padding."""
        tail = gradient_size + metric_size
        self.vector = vector
        self.gradients = vector[:gradient_size]
        self.metrics = vector[gradient_size:tail]
        self._tail = vector[tail : tail + FIXED]
        end = tail + FIXED + ranks * DIGEST_WORDS
        self._digests = vector[tail + FIXED : end].reshape(ranks, DIGEST_WORDS)

    @staticmethod
    def size(gradient_size: int, metric_size: int, ranks: int) -> int:
        """Elements needed."""
        return gradient_size + metric_size + FIXED + ranks * DIGEST_WORDS

    @classmethod
    def aligned_size(cls, gradient_size: int, metric_size: int, ranks: int) -> int:
        """Elements of an allocated buffer."""
        size = cls.size(gradient_size, metric_size, ranks)
        return size + -size % ALIGNED

    @classmethod
    def allocate(
        cls, gradient_size: int, metric_size: int, *, dtype: npt.DTypeLike, ranks: int
    ) -> StepBuffer:
        """A zeroed buffer; buffers of this length side by side keep their alignment."""
        vector = np.zeros(cls.aligned_size(gradient_size, metric_size, ranks), dtype)
        return cls(vector, gradient_size, metric_size, ranks)

    def clear_sums(self) -> None:
        """Zero everything behind the gradients, which are written, never added to."""
        self.metrics[:] = 0
        self._tail[:] = 0
        self._digests[:] = 0

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

    @property
    def checkpoint(self) -> float:
        """How many ranks ask for a checkpoint."""
        return float(self._tail[CHECKPOINT])

    @checkpoint.setter
    def checkpoint(self, value: float) -> None:
        self._tail[CHECKPOINT] = value

    @property
    def finish(self) -> float:
        """How many ranks say that the time is up."""
        return float(self._tail[FINISH])

    @finish.setter
    def finish(self, value: float) -> None:
        self._tail[FINISH] = value

    @property
    def unreadable(self) -> float:
        """Number of pieces whose samples could not be read."""
        return float(self._tail[UNREADABLE])

    @unreadable.setter
    def unreadable(self, value: float) -> None:
        self._tail[UNREADABLE] = value

    @property
    def digests(self) -> npt.NDArray[np.uint64]:
        """The digest of every rank's parameters, in rank order."""
        words = self._digests.astype(np.uint64)
        shifts = np.arange(DIGEST_WORDS, dtype=np.uint64) * np.uint64(16)
        digests: npt.NDArray[np.uint64] = np.bitwise_or.reduce(words << shifts, axis=1)
        return digests

    def set_digest(self, rank: int, digest: int) -> None:
        """Note a rank's own digest, of 64 bits."""
        for word in range(DIGEST_WORDS):
            self._digests[rank, word] = digest >> 16 * word & 0xFFFF
