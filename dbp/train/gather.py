"""All-gather the statistics of all lanes at a sync point (batch normalization)."""

from __future__ import annotations

from typing import final

import numpy as np

from dbp.nn.layer import Array
from dbp.parallel.communicator import Communicator


@final
class Gather:
    """All-gathers rows of statistics, one a lane, in the order of ranks and lanes."""

    def __init__(self, communicator: Communicator, lanes: int) -> None:
        """``lanes`` is the number of this rank's lanes. Collective."""
        self._communicator = communicator
        counts = np.empty(communicator.size, np.int64)
        communicator.allgather(np.array([lanes], np.int64), counts)
        self._longest = int(counts.max())
        self._present = np.arange(self._longest) < counts[:, None]

    def __call__(self, statistics: Array) -> Array:
        """Return the rows of all lanes, (all lanes, size), float64; takes (own lanes, size).

        Collective.
        """
        size = statistics.shape[1]
        own = np.zeros((self._longest, size))
        own[: len(statistics)] = statistics
        every = np.empty((self._communicator.size, self._longest, size))
        self._communicator.allgather(own.reshape(-1), every.reshape(-1))
        present: Array = every[self._present]
        return present
