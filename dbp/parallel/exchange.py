"""Choose how gradients are summed over ranks; implement the simplest way, one allreduce.

``allreduce``: every rank gets the whole sum and updates all parameters. ``sharded``: every
rank gets its shard of the sum and updates that shard, then the parameters are all-gathered
(ZeRO stage 1; Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion
Parameter Models", 2020). ``overlapped``: gradients are sent in buckets while the backward pass
computes the next ones (Li et al., "PyTorch Distributed: Experiences on Accelerating Data
Parallel Training", 2020).
"""

from __future__ import annotations

from typing import final

import numpy.typing as npt

from dbp.parallel.communicator import Communicator
from dbp.parallel.exchange_contract import Exchange
from dbp.parallel.lanes import LaneTree
from dbp.parallel.message_exchange import MessageExchange
from dbp.parallel.shared_exchange import SharedExchange, shared_bytes
from dbp.parallel.step_buffer import StepBuffer

__all__ = ["Exchange", "make_exchange"]


@final
class FastExchange(Exchange):
    """One lane a rank and one fused allreduce; the MPI library chooses the order of the sum."""

    def __init__(
        self,
        communicator: Communicator,
        gradient_size: int,
        metric_size: int,
        *,
        dtype: npt.DTypeLike,
    ) -> None:
        tree = LaneTree(communicator.size, communicator.rank, communicator.size)
        super().__init__(tree, gradient_size)
        self.own = slice(0, gradient_size)
        self._communicator = communicator

        def allocate() -> StepBuffer:
            return StepBuffer.allocate(
                gradient_size, metric_size, dtype=dtype, ranks=communicator.size
            )

        self._buffer = allocate()
        tree.set_buffers([self._buffer], allocate)

    def _reduce(self) -> StepBuffer:
        self._communicator.allreduce(self._buffer.vector)
        return self._buffer


def make_exchange(
    communicator: Communicator,
    gradient_size: int,
    metric_size: int,
    *,
    dtype: npt.DTypeLike,
    numerics: str,
    lanes: int,
    mode: str = "allreduce",
) -> Exchange:
    """Return the exchange for a spec's ``numerics`` and ``mode`` on these ranks. Collective.

    Args:
        communicator: The ranks that take part.
        gradient_size: Elements of the flat gradient vector.
        metric_size: Number of metric sums that travel with the gradients.
        dtype: Type of the elements.
        numerics: "exact" (fixed tree over lanes) or "fast" (one lane a rank).
        lanes: Number of lanes of a mini-batch, for "exact".
        mode: "allreduce", "sharded" or "overlapped".

    Ranks that share memory use it, except with "overlapped", which always sends messages:
    overlapping gains nothing in shared memory, where copies take the same cores.
    """
    sizes = (gradient_size, metric_size)
    if numerics == "fast":
        lanes = communicator.size
    if mode != "overlapped":
        needed = shared_bytes(communicator, *sizes, dtype=dtype, lanes=lanes)
        if communicator.can_share(needed):
            return SharedExchange(
                communicator, *sizes, dtype=dtype, lanes=lanes, sharded=mode == "sharded"
            )
    if numerics == "fast" and mode == "allreduce":
        return FastExchange(communicator, *sizes, dtype=dtype)
    return MessageExchange(communicator, *sizes, dtype=dtype, lanes=lanes, mode=mode)
