"""Where the pieces of a mini-batch meet on the way: one small exchange of their statistics."""

from __future__ import annotations

from typing import final

import numpy as np

from dbp.nn.layer import Array
from dbp.parallel.communicator import Communicator


@final
class Gather:
    """Brings the rows of all ranks together, in the order of ranks and of rows in them."""

    def __init__(self, communicator: Communicator, pieces: int) -> None:
        """``pieces``: how many rows this rank brings to every meeting. Collective."""
        self._communicator = communicator
        counts = np.empty(communicator.size, np.int64)
        communicator.allgather(np.array([pieces], np.int64), counts)
        self._longest = int(counts.max())
        self._present = np.arange(self._longest) < counts[:, None]

    def __call__(self, statistics: Array) -> Array:
        """All rows, shape (all pieces, size), of (own pieces, size) in float64. Collective."""
        size = statistics.shape[1]
        own = np.zeros((self._longest, size))
        own[: len(statistics)] = statistics
        every = np.empty((self._communicator.size, self._longest, size))
        self._communicator.allgather(own.reshape(-1), every.reshape(-1))
        met: Array = every[self._present]
        return met
