"""A part of the vector on its way: sent, completed by its owners, gathered again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt

from dbp.parallel.communicator import Buffer, Communicator, Pending
from dbp.parallel.lane_sums import LaneSums, complete


@final
class Bucket:
    """One part, cut into a slice for each rank; a ``tail`` goes to every rank beside it."""

    def __init__(
        self,
        sums: LaneSums,
        rank: int,
        slices: Sequence[slice],
        tail: slice,
        *,
        dtype: npt.DTypeLike,
    ) -> None:
        self.span = slice(slices[0].start, slices[-1].stop)
        self._lanes = sums.lanes
        self._slices = slices
        self._tail = tail
        self._own = slices[rank]
        self._counts = [part.stop - part.start for part in slices]
        behind = tail.stop - (tail.start or 0)
        lengths = [count + behind for count in self._counts]
        mine = len(sums.own_summits)
        self._send_counts = [mine * length for length in lengths]
        self._receive_counts = [len(nodes) * lengths[rank] for nodes in sums.summits]
        self._send = np.zeros(sum(self._send_counts), dtype)
        self._received = np.zeros(sum(self._receive_counts), dtype)
        self._result = np.zeros(lengths[rank], dtype)
        nodes = [node for nodes in sums.summits for node in nodes]
        rows = self._received.reshape(len(nodes), lengths[rank])
        self._rows = dict(zip(nodes, rows, strict=True))
        self._pending: Pending | None = None

    def start_send(self, communicator: Communicator, summits: Sequence[Buffer]) -> None:
        """Send every rank its slice of these summits, and the tail. Collective."""
        place = 0
        for part in self._slices:
            for vector in summits:
                for source in (vector[part], vector[self._tail]):
                    self._send[place : place + source.size] = source
                    place += source.size
        self._pending = communicator.start_alltoall(
            self._send, self._send_counts, self._received, self._receive_counts
        )

    def advance(self) -> None:
        """Let what is under way go on; MPI moves only while it is called."""
        if self._pending is not None:
            self._pending.advance()

    def complete(self, total: Buffer) -> None:
        """Wait for the summits, and write this rank's slice and the tail of their sum."""
        self.wait()
        complete(self._lanes, self._rows, self._result)
        count = self._own.stop - self._own.start
        total[self._own] = self._result[:count]
        total[self._tail] = self._result[count:]

    def start_gather(self, communicator: Communicator, total: Buffer) -> None:
        """Send the completed slice to all ranks. Collective."""
        own = self._result[: self._own.stop - self._own.start]
        self._pending = communicator.start_allgather(own, total[self.span], self._counts)

    def wait(self) -> None:
        """Return when what was started is done."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None
