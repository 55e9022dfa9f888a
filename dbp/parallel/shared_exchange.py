"""The exchange of ranks that share memory: gradients are written where the others read them.

Each rank completes the tree for its own part of the vector, straight from every rank's memory.
Nothing is packed, sent or received; a barrier takes the place of the messages.
"""

from __future__ import annotations

from typing import final

import numpy as np
import numpy.typing as npt

from dbp.parallel.communicator import Buffer, Communicator
from dbp.parallel.exchange_contract import Exchange, own_parts
from dbp.parallel.lane_sums import LaneSums, complete
from dbp.parallel.step_buffer import StepBuffer


@final
class SharedExchange(Exchange):
    """``sharded``: every rank keeps its part of the sum, and updates that part."""

    def __init__(
        self,
        communicator: Communicator,
        gradient_size: int,
        metric_size: int,
        *,
        dtype: npt.DTypeLike,
        lanes: int,
        sharded: bool,
    ) -> None:
        """Collective. Raises ValueError for more ranks than lanes."""
        rank, ranks = communicator.rank, communicator.size
        self._sums = LaneSums(lanes, rank, ranks)
        self._communicator = communicator
        self.sharded = sharded
        self._size = self._settled = gradient_size
        self._parts = own_parts(gradient_size, ranks)
        self._part = self._parts[rank]
        self.own = self._part if sharded else slice(0, gradient_size)
        self._total = StepBuffer.allocate(gradient_size, metric_size, dtype=dtype, ranks=ranks)
        length = self._total.vector.size
        count = len(self._sums.own_summits)
        regions = communicator.share((count + 1) * length, dtype)
        # Behind a rank's summits: what it has to give to the others, in its own part.
        self._given = [region[-length:] for region in regions]
        summits = {
            node: region[place * length : (place + 1) * length]
            for nodes, region in zip(self._sums.summits, regions, strict=True)
            for place, node in enumerate(nodes)
        }
        self._gradients = {node: vector[self._part] for node, vector in summits.items()}
        self._tails = {node: vector[gradient_size:] for node, vector in summits.items()}
        self._tail_copies = {node: tail.copy() for node, tail in self._tails.items()}
        places = [
            StepBuffer(summits[node], gradient_size, metric_size, ranks)
            for node in self._sums.own_summits
        ]
        self._sums.use(
            places,
            lambda: StepBuffer.allocate(gradient_size, metric_size, dtype=dtype, ranks=ranks),
        )

    def shares(self, rows: int) -> list[tuple[int, int]]:
        return self._sums.shares(rows)

    def take(self) -> StepBuffer:
        return self._sums.take()

    def add(self, buffer: StepBuffer) -> None:
        self._sums.add(buffer)
        self._settled = self._size

    def ready(self, start: int) -> None:
        """Add the slice while it is in the cache of the processor."""
        self._sums.settle(slice(start, self._settled))
        self._settled = start

    def reduce(self) -> StepBuffer:
        self._sums.finish()
        self._communicator.barrier()  # every summit stands
        lanes, total = self._sums.lanes, self._total.vector
        for node, tail in self._tails.items():
            np.copyto(self._tail_copies[node], tail)  # the others read it, too
        complete(lanes, self._tail_copies, total[self._size :])
        if self.sharded or self._communicator.size == 1:
            complete(lanes, self._gradients, total[self._part])
            self._communicator.barrier()  # nobody reads a tail any more
        else:
            complete(lanes, self._gradients, self._given[self._communicator.rank][self._part])
            self._collect(total)
        return self._total

    def spread(self, vector: Buffer) -> None:
        if self.sharded:
            self._communicator.barrier()  # nobody reads what was given before
            np.copyto(self._given[self._communicator.rank][self._part], vector[self._part])
            self._collect(vector, own_too=False)

    def _collect(self, vector: Buffer, *, own_too: bool = True) -> None:
        """Fill the vector with what every rank gives. Collective."""
        self._communicator.barrier()  # everything is given
        for rank, (part, given) in enumerate(zip(self._parts, self._given, strict=True)):
            if own_too or rank != self._communicator.rank:
                np.copyto(vector[part], given[part])


def shared_bytes(
    communicator: Communicator,
    gradient_size: int,
    metric_size: int,
    *,
    dtype: npt.DTypeLike,
    lanes: int,
) -> int:
    """The memory that a SharedExchange needs of this rank; ValueError as there."""
    summits = LaneSums(lanes, communicator.rank, communicator.size).own_summits
    length = StepBuffer.aligned_size(gradient_size, metric_size, communicator.size)
    return (len(summits) + 1) * length * np.dtype(dtype).itemsize
