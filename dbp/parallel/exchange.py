"""The choice of an exchange, and the plainest one: a single allreduce.

``allreduce``: every rank gets the whole sum and updates everything. ``sharded``: every rank
gets and updates its part, and the parameters are spread (ZeRO stage 1; Rajbhandari et al.,
"ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", 2020).
``overlapped``: parts leave while the backward pass still computes others (Li et al., "PyTorch
Distributed: Experiences on Accelerating Data Parallel Training", 2020).
"""

from __future__ import annotations

from typing import final

import numpy.typing as npt

from dbp.parallel.communicator import Communicator
from dbp.parallel.exchange_contract import Exchange
from dbp.parallel.lanes import part
from dbp.parallel.message_exchange import MessageExchange
from dbp.parallel.shared_exchange import SharedExchange, shared_bytes
from dbp.parallel.step_buffer import StepBuffer

__all__ = ["Exchange", "make_exchange"]


@final
class FastExchange(Exchange):
    """One piece a rank, one fused allreduce: the order of the sum is the MPI library's."""

    def __init__(
        self,
        communicator: Communicator,
        gradient_size: int,
        metric_size: int,
        *,
        dtype: npt.DTypeLike,
    ) -> None:
        self.own = slice(0, gradient_size)
        self._communicator = communicator
        self._buffer = StepBuffer.allocate(
            gradient_size, metric_size, dtype=dtype, ranks=communicator.size
        )

    def shares(self, rows: int) -> list[tuple[int, int]]:
        return [part(rows, self._communicator.rank, self._communicator.size)]

    def take(self) -> StepBuffer:
        self._buffer.clear_sums()
        return self._buffer

    def add(self, buffer: StepBuffer) -> None:
        pass

    def reduce(self) -> StepBuffer:
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
    """The exchange of a spec's ``numerics`` and mode that suits the ranks. Collective.

    Fast numerics have one lane a rank. Where ranks share memory nothing is gained by
    overlapping (the copies take the same cores), so only ``overlapped`` still sends messages.
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
