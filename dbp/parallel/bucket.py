"""One bucket of the gradients: all-to-all of slices, sum in tree order, all-gather."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt

from dbp.parallel.communicator import Buffer, Communicator, Pending
from dbp.parallel.lanes import Completion, LaneTree


@final
class Bucket:
    """A range of the vector, cut into one slice a rank, which the rank sums.

    The ``tail`` (sums such as the loss) goes to every rank in addition.
    """

    def __init__(
        self,
        tree: LaneTree,
        rank: int,
        slices: Sequence[slice],
        tail: slice,
        *,
        dtype: npt.DTypeLike,
    ) -> None:
        self.span = slice(slices[0].start, slices[-1].stop)
        self._slices = slices
        self._tail = tail
        self._own = slices[rank]
        self._counts = [part.stop - part.start for part in slices]
        tail_size = tail.stop - (tail.start or 0)
        lengths = [count + tail_size for count in self._counts]
        mine = len(tree.own_subtrees)
        self._send_counts = [mine * length for length in lengths]
        self._receive_counts = [len(nodes) * lengths[rank] for nodes in tree.subtrees]
        self._send = np.zeros(sum(self._send_counts), dtype)
        self._received = np.zeros(sum(self._receive_counts), dtype)
        self._result = np.zeros(lengths[rank], dtype)
        nodes = [node for nodes in tree.subtrees for node in nodes]
        rows = self._received.reshape(len(nodes), lengths[rank])
        sums = dict(zip(nodes, rows, strict=True))
        self._completion = Completion(tree.lanes, sums, self._result)
        self._pending: Pending | None = None

    def start_send(self, communicator: Communicator, subtree_sums: Sequence[Buffer]) -> None:
        """Start sending every rank its slice of these sums, and the tail. Collective."""
        place = 0
        for part in self._slices:
            for vector in subtree_sums:
                for source in (vector[part], vector[self._tail]):
                    self._send[place : place + source.size] = source
                    place += source.size
        self._pending = communicator.start_alltoall(
            self._send, self._send_counts, self._received, self._receive_counts
        )

    @property
    def under_way(self) -> bool:
        """Whether a started call has not been waited for."""
        return self._pending is not None

    def advance(self) -> None:
        """Give MPI time to move the data of a started call; it does so only inside calls."""
        if self._pending is not None:
            self._pending.advance()

    def complete(self, total: Buffer) -> None:
        """Wait for the subtree sums; write this rank's slice of the total, and its tail."""
        self.wait()
        self._completion.run()
        count = self._own.stop - self._own.start
        total[self._own] = self._result[:count]
        total[self._tail] = self._result[count:]

    def start_gather(self, communicator: Communicator, total: Buffer) -> None:
        """Start sending this rank's slice of the total to all ranks. Collective."""
        own = self._result[: self._own.stop - self._own.start]
        self._pending = communicator.start_allgather(own, total[self.span], self._counts)

    def wait(self) -> None:
        """Return when the started call is done."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None
