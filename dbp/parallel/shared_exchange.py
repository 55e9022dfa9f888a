"""Sum gradients over ranks through shared memory, in the order of the fixed tree over lanes.

Every rank writes its subtree sums to memory that all ranks read. Each rank adds up its own
slice of them in tree order. Barriers separate writing and reading; no messages are sent. A
sharded step has three: before the sums are read, before the flags of all ranks are, and before
the parameters are. The parameters themselves can lie there, too, once for all ranks.
"""

from __future__ import annotations

from typing import final

import numpy as np
import numpy.typing as npt

from dbp.parallel.communicator import Buffer, Communicator
from dbp.parallel.exchange_contract import Exchange, own_parts
from dbp.parallel.exchange_step import ExchangeStep
from dbp.parallel.lanes import Completion, LaneTree
from dbp.parallel.step_buffer import StepBuffer


@final
class SharedExchange(Exchange):
    """Exchange through shared memory; if ``sharded``, every rank updates only its shard."""

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
        tree = LaneTree(lanes, rank, ranks)
        super().__init__(tree, gradient_size)
        self._communicator = communicator
        self.sharded = sharded
        self._parts = own_parts(gradient_size, ranks)
        self._part = self._parts[rank]
        self.own = self._part if sharded else slice(0, gradient_size)
        length = StepBuffer.aligned_size(gradient_size, metric_size, ranks)
        count = len(tree.own_subtrees)
        regions = communicator.share((count + 1) * length, dtype)
        # After the subtree sums of a rank: its slice of the total, for the others to copy, and
        # the flag of ``any_rank``.
        self._given = [region[-length:] for region in regions]
        subtree_sums = {
            node: region[place * length : (place + 1) * length]
            for nodes, region in zip(tree.subtrees, regions, strict=True)
            for place, node in enumerate(nodes)
        }
        own = [
            StepBuffer(subtree_sums[node], gradient_size, metric_size, ranks)
            for node in tree.own_subtrees
        ]
        if ranks == 1:  # no other rank reads the first subtree sum
            self._total = own[0]
        else:
            self._total = StepBuffer.allocate(
                gradient_size, metric_size, dtype=dtype, ranks=ranks
            )
        total = self._total.vector
        parts = {node: vector[self._part] for node, vector in subtree_sums.items()}
        if ranks == 1:
            result = parts[tree.own_subtrees[0]]
        else:
            result = (total if sharded else self._given[rank])[self._part]
        self._gradients = Completion(lanes, parts, result)
        copies = {node: vector[gradient_size:].copy() for node, vector in subtree_sums.items()}
        self._tails = [(copies[node], subtree_sums[node][gradient_size:]) for node in copies]
        self._tail = Completion(lanes, copies, total[gradient_size:])
        self._flags = [given[gradient_size : gradient_size + 1] for given in self._given]
        self._sums_read = True  # other ranks do not read the subtree sums any more
        self._given_read = False  # nor what this rank has given
        tree.set_buffers(
            own,
            lambda: StepBuffer.allocate(gradient_size, metric_size, dtype=dtype, ranks=ranks),
        )

    def _gradients_ready(self, step: ExchangeStep, start: int) -> None:
        step.add_early(start)

    def _reduce(self) -> StepBuffer:
        self._communicator.barrier()  # all subtree sums are complete
        self._given_read = True
        for copy, tail in self._tails:
            np.copyto(copy, tail)  # other ranks read the original
        self._tail.run()
        self._gradients.run()
        if self.sharded or self._communicator.size == 1:
            self._sums_read = False
        else:
            self._collect(self._total.vector)
        return self._total

    def any_rank(self, flag: bool) -> bool:
        if self.sharded:
            self._flags[self._communicator.rank][0] = flag
            self._wait_for_readers()
            flag = any(other[0] for other in self._flags)
        return flag

    def share_parameters(self, size: int) -> Buffer | None:
        if not self.sharded or self._communicator.size == 1:
            return None
        # Rank 0 owns the memory; MPI libraries differ in what an empty region is.
        mine, dtype = size if self._communicator.rank == 0 else 1, self._total.vector.dtype
        copies = "each rank keeps a copy of the parameters instead, which is slower"
        if not self._communicator.can_share(mine * dtype.itemsize, copies):
            return None
        return self._communicator.share(mine, dtype)[0]

    def parameters_updated(self) -> None:
        self._wait_for_readers()

    def gather_parameters(self, vector: Buffer) -> None:
        if self.sharded and self._communicator.size > 1:
            if not self._given_read:  # this step has given other values
                self._communicator.barrier()
            np.copyto(self._given[self._communicator.rank][self._part], vector[self._part])
            self._collect(vector, own_too=False)
            self._given_read = False

    def _begin(self) -> None:
        if not self._sums_read:
            self._wait_for_readers()

    def _wait_for_readers(self) -> None:
        """Wait until all ranks have read the subtree sums. Collective."""
        self._communicator.barrier()
        self._sums_read = True

    def _collect(self, vector: Buffer, *, own_too: bool = True) -> None:
        """Copy every rank's slice into the vector. Collective."""
        self._wait_for_readers()  # all slices are written
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
    """Return the bytes of shared memory that a SharedExchange allocates on this rank.

    Raises ValueError for more ranks than lanes.
    """
    subtrees = LaneTree(lanes, communicator.rank, communicator.size).own_subtrees
    length = StepBuffer.aligned_size(gradient_size, metric_size, communicator.size)
    return (len(subtrees) + 1) * length * np.dtype(dtype).itemsize
