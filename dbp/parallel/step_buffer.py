"""The layout of the vector that one step sums over ranks: gradients, metrics, loss, flags.

All elements have the gradients' type. In float32 counts are exact up to 2**24 samples a
mini-batch; a flag is the number of ranks or lanes that set it. At the end every rank has its
own elements for the digest of its parameters, to which the other ranks add zeros.
"""

from __future__ import annotations

from typing import Final, final

import numpy as np
import numpy.typing as npt

from dbp.parallel.communicator import Buffer

ALIGNED: Final = 16  # elements: a cache line of float32
DIGEST_WORDS: Final = 4  # of 16 bits each: exact in float32
FIXED: Final = 7  # elements between the metric sums and the digests


@final
class _Element:
    """An element after the metric sums, read and written as a float."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def __get__(self, buffer: StepBuffer, owner: type[StepBuffer]) -> float:
        return float(buffer.tail[self._offset])

    def __set__(self, buffer: StepBuffer, value: float) -> None:
        buffer.tail[self._offset] = value


@final
class StepBuffer:
    """Named views of one vector: gradients, metric sums, loss, weight, flags and digests.

    Attributes:
        vector: All elements.
        gradients: The gradients of the sum over the samples.
        metrics: The metric sums.
        tail: The elements below, one each.
        loss: The weighted sum of the samples' losses.
        weight: The sum of the samples' weights.
        non_finite: The number of lanes whose loss or state is not finite.
        stop: The number of ranks that request a stop.
        checkpoint: The number of ranks that request a checkpoint.
        finish: The number of ranks on which the time limit has passed.
        unreadable: The number of lanes whose samples could not be read.
    """

    loss = _Element(0)
    weight = _Element(1)
    non_finite = _Element(2)
    stop = _Element(3)
    checkpoint = _Element(4)
    finish = _Element(5)
    unreadable = _Element(6)

    def __init__(
        self, vector: Buffer, gradient_size: int, metric_size: int, ranks: int
    ) -> None:
        """``vector`` may be longer than ``size``: the rest is padding."""
        tail = gradient_size + metric_size
        self.vector = vector
        self.gradients = vector[:gradient_size]
        self.metrics = vector[gradient_size:tail]
        self.tail = vector[tail : tail + FIXED]
        end = tail + FIXED + ranks * DIGEST_WORDS
        self._digests = vector[tail + FIXED : end].reshape(ranks, DIGEST_WORDS)

    @staticmethod
    def size(gradient_size: int, metric_size: int, ranks: int) -> int:
        """Return the number of elements that are used."""
        return gradient_size + metric_size + FIXED + ranks * DIGEST_WORDS

    @classmethod
    def aligned_size(cls, gradient_size: int, metric_size: int, ranks: int) -> int:
        """Return the number of elements that ``allocate`` gives: ``size``, padded."""
        size = cls.size(gradient_size, metric_size, ranks)
        return size + -size % ALIGNED

    @classmethod
    def allocate(
        cls, gradient_size: int, metric_size: int, *, dtype: npt.DTypeLike, ranks: int
    ) -> StepBuffer:
        """Return a zeroed buffer; adjacent buffers of its length stay aligned."""
        vector = np.zeros(cls.aligned_size(gradient_size, metric_size, ranks), dtype)
        return cls(vector, gradient_size, metric_size, ranks)

    def tail_over(self, vector: Buffer) -> StepBuffer:
        """Return a buffer without gradients, laid out over ``vector``: this buffer's rest."""
        return StepBuffer(vector, 0, self.metrics.size, len(self._digests))

    def clear_sums(self) -> None:
        """Zero everything after the gradients; the backward pass overwrites those."""
        self.metrics[:] = 0
        self.tail[:] = 0
        self._digests[:] = 0

    @property
    def commands(self) -> list[float]:
        """The flags ``stop``, ``checkpoint`` and ``finish``."""
        commands: list[float] = self.tail[3:6].tolist()
        return commands

    @property
    def digests(self) -> list[tuple[float, ...]]:
        """The digest of every rank's parameters, in rank order, each as its words."""
        return [tuple(words) for words in self._digests.tolist()]

    def set_digest(self, rank: int, digest: int) -> None:
        """Store the 64-bit digest of a rank's parameters."""
        self._digests[rank] = [digest >> 16 * word & 0xFFFF for word in range(DIGEST_WORDS)]
