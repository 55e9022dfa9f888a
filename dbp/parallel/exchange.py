"""One exchange a step: how the pieces that ranks computed become one sum on all of them.

The step takes a buffer for each of its ``shares`` of the mini-batch, fills it, adds it, and
then calls ``reduce``. A new transport, such as gradients written
straight into memory shared by the ranks of a host, is another Exchange.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import numpy as np
import numpy.typing as npt

from dbp.parallel.communicator import Buffer, Communicator
from dbp.parallel.lanes import Node, cover, part, root
from dbp.parallel.step_buffer import StepBuffer


class Exchange(ABC):
    """The sum of all pieces of all ranks, once a step."""

    @abstractmethod
    def shares(self, rows: int) -> list[tuple[int, int]]:
        """This rank's pieces [start, stop) of so many rows; the same number at every call."""

    @abstractmethod
    def take(self) -> StepBuffer:
        """A cleared buffer for a piece; several may be taken before one is added."""

    @abstractmethod
    def add(self, buffer: StepBuffer) -> None:
        """Add a piece, in the order of the shares; the buffer is the exchange's again."""

    @abstractmethod
    def reduce(self) -> StepBuffer:
        """The sum over all pieces of all ranks; the same bits on every rank. Collective."""


@final
class FastExchange(Exchange):
    """One piece a rank, one fused allreduce: the order of the sum follows the ranks."""

    def __init__(
        self,
        communicator: Communicator,
        gradient_size: int,
        metric_size: int,
        *,
        dtype: npt.DTypeLike,
    ) -> None:
        self._communicator = communicator
        self._buffer = StepBuffer.allocate(
            gradient_size, metric_size, dtype=dtype, ranks=communicator.size
        )

    def shares(self, rows: int) -> list[tuple[int, int]]:
        """See Exchange."""
        return [part(rows, self._communicator.rank, self._communicator.size)]

    def take(self) -> StepBuffer:
        """See Exchange."""
        self._buffer.clear_sums()
        return self._buffer

    def add(self, buffer: StepBuffer) -> None:
        """See Exchange."""

    def reduce(self) -> StepBuffer:
        """See Exchange."""
        self._communicator.allreduce(self._buffer.vector)
        return self._buffer


@final
class ExactExchange(Exchange):
    """One piece a lane, added in a fixed binary tree over all lanes: the same bits always.

    The tree does not know the ranks. A rank adds what lies wholly inside its own lanes, so
    that a handful of nodes remain; slices of these go to the rank that owns the slice, which
    completes the tree there; the slices are gathered. With as many lanes as a power of two
    times the ranks, one node a rank remains and the bytes are those of a reduce-scatter and
    an allgather.
    """

    def __init__(
        self,
        communicator: Communicator,
        gradient_size: int,
        metric_size: int,
        *,
        dtype: npt.DTypeLike,
        lanes: int,
    ) -> None:
        """Raises ValueError for more ranks than lanes."""
        if communicator.size > lanes:
            raise ValueError(f"{communicator.size} ranks cannot share {lanes} lanes")
        self._communicator = communicator
        self._lanes = lanes
        self._first, self._last = part(lanes, communicator.rank, communicator.size)
        self._nodes = [
            cover(*part(lanes, rank, communicator.size)) for rank in range(communicator.size)
        ]
        self._shape = (gradient_size, metric_size)
        self._dtype = dtype
        self._added = 0
        self._sums: list[tuple[Node, StepBuffer]] = []
        self._free: list[StepBuffer] = []
        self._total = self._allocate()
        self._slice = self._total.vector.size // communicator.size
        mine = len(self._nodes[communicator.rank])
        everybody = sum(map(len, self._nodes))
        self._send = np.zeros(mine * self._slice * communicator.size, dtype)
        self._received = np.zeros(everybody * self._slice, dtype)

    def shares(self, rows: int) -> list[tuple[int, int]]:
        """See Exchange."""
        return [part(rows, lane, self._lanes) for lane in range(self._first, self._last)]

    def take(self) -> StepBuffer:
        """See Exchange."""
        buffer = self._free.pop() if self._free else self._allocate()
        buffer.clear_sums()
        return buffer

    def add(self, buffer: StepBuffer) -> None:
        """See Exchange; two halves of a larger node are added up at once."""
        node = Node(0, self._first + self._added)
        self._added += 1
        while self._sums and self._sums[-1][0] == node.sibling and node.index % 2:
            _, sums = self._sums.pop()
            sums.vector += buffer.vector
            self._free.append(buffer)
            node, buffer = Node(node.level + 1, node.index >> 1), sums
        self._sums.append((node, buffer))

    def reduce(self) -> StepBuffer:
        """See Exchange."""
        size, length = self._communicator.size, self._slice
        mine = [buffer for _, buffer in self._sums]
        places = self._send.reshape(size, len(mine), length)
        for i, buffer in enumerate(mine):
            places[:, i, :] = buffer.vector.reshape(size, length)
        self._free.extend(mine)
        self._sums.clear()
        self._added = 0
        self._communicator.alltoall(
            self._send,
            [len(mine) * length] * size,
            self._received,
            [len(nodes) * length for nodes in self._nodes],
        )
        rows = self._received.reshape(-1, length)
        nodes = [node for nodes in self._nodes for node in nodes]
        parts = dict(zip(nodes, rows, strict=True))
        self._communicator.allgather(
            self._complete(root(self._lanes), parts), self._total.vector
        )
        return self._total

    def _complete(self, node: Node, parts: dict[Node, Buffer]) -> Buffer:
        """The node's sum, added up from the parts below it, in place."""
        if node in parts:
            return parts[node]
        left, right = node.children
        total = self._complete(left, parts)
        if right.first < self._lanes:
            total += self._complete(right, parts)
        return total

    def _allocate(self) -> StepBuffer:
        return StepBuffer.allocate(
            *self._shape, dtype=self._dtype, ranks=self._communicator.size
        )


def make_exchange(
    communicator: Communicator,
    gradient_size: int,
    metric_size: int,
    *,
    dtype: npt.DTypeLike,
    numerics: str,
    lanes: int,
) -> Exchange:
    """The exchange of a spec's ``numerics``: ``fast`` or ``exact``."""
    if numerics == "exact":
        return ExactExchange(communicator, gradient_size, metric_size, dtype=dtype, lanes=lanes)
    return FastExchange(communicator, gradient_size, metric_size, dtype=dtype)
