"""Sum gradients over the lanes of one rank, in the order of a fixed binary tree.

A lane is a fixed slice of the mini-batch. A sum of floating-point numbers depends on its
order, so the tree spans all lanes and does not depend on the number of ranks. A rank adds the
subtrees that lie wholly inside its own lanes (the *subtree sums*, one a rank where the lanes
are a power of two times the ranks); an exchange adds these up to the root. Nothing here sends.

The alternative is fixed-point: scale to int64, where MPI's own sum gives the same bits in any
order. Measured (2 ranks, one host, float32, ``tests/benchmarks/exact_sum.py``): the int64 sum
sends twice the bytes, converts every lane's gradients twice, and needs a scale that all ranks
agree on before every step; it took 3 to 4 times as long as the tree through messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from dbp.parallel.communicator import Buffer
from dbp.parallel.step_buffer import StepBuffer

LaneMemory = list[tuple[Buffer, list[tuple[Buffer, Buffer]]]]
"""For each lane: its memory, and the pairs (left, right) to add, in order, after it."""


def part(total: int, index: int, parts: int) -> tuple[int, int]:
    """Return (start, stop) of the ``index``-th of ``parts`` even parts of ``range(total)``.

    The sizes of the parts differ by at most one.
    """
    return total * index // parts, total * (index + 1) // parts


@dataclass(frozen=True, order=True)
class Node:
    """A node of the binary tree over lanes: the 2**level lanes from index * 2**level on."""

    level: int
    index: int

    @property
    def first(self) -> int:
        """The number of the node's first lane."""
        return self.index << self.level

    @property
    def children(self) -> tuple[Node, Node]:
        """The two nodes one level below."""
        return Node(self.level - 1, 2 * self.index), Node(self.level - 1, 2 * self.index + 1)


def root(lanes: int) -> Node:
    """Return the smallest node that covers all lanes."""
    return Node((lanes - 1).bit_length(), 0)


def cover(start: int, stop: int) -> list[Node]:
    """Return the fewest nodes that cover the lanes [start, stop) exactly, in order."""
    nodes = []
    while start < stop:
        level = (start & -start).bit_length() - 1 if start else (stop - start).bit_length()
        while start + (1 << level) > stop:
            level -= 1
        nodes.append(Node(level, start >> level))
        start += 1 << level
    return nodes


@final
class LaneTree:
    """The tree over all lanes, seen from one rank, and the buffers of the rank's lanes.

    Attributes:
        lanes: Number of lanes of the mini-batch, over all ranks.
        own: Numbers of this rank's lanes.
        subtrees: For each rank, the largest nodes of the tree inside its lanes, in order.
        own_subtrees: The same for this rank.
    """

    def __init__(self, lanes: int, rank: int, ranks: int) -> None:
        """Raises ValueError for more ranks than lanes."""
        if ranks > lanes:
            raise ValueError(f"{ranks} ranks cannot share {lanes} lanes")
        self.lanes = lanes
        self.own = range(*part(lanes, rank, ranks))
        self.subtrees = [cover(*part(lanes, index, ranks)) for index in range(ranks)]
        self.own_subtrees = self.subtrees[rank]
        self.spare: list[StepBuffer] = []
        self._tails: list[StepBuffer] = []  # of joint lanes

    def set_buffers(
        self, places: Sequence[StepBuffer], allocate: Callable[[], StepBuffer]
    ) -> None:
        """Set the buffers that receive the subtree sums, one for each own subtree.

        ``allocate`` returns a buffer for any other lane. A lane is added to the lane on its
        left, so that the buffer of the first lane of a subtree receives the subtree sum.
        """
        firsts = [node.first for node in self.own_subtrees]
        self._places = dict(zip(firsts, places, strict=True))
        self._dtype = places[0].vector.dtype
        self._allocate = allocate

    def rows(self, rows: int) -> list[tuple[int, int]]:
        """Return [start, stop) of each of this rank's lanes, in a part of ``rows`` rows."""
        return [part(rows, lane, self.lanes) for lane in self.own]

    def buffer(self, lane: int, free: list[StepBuffer]) -> StepBuffer:
        """Return the lane's buffer, cleared: its place, one of ``free``, or a new spare."""
        buffer = self._places.get(lane)
        if buffer is None and free:
            buffer = free.pop()
        if buffer is None:
            buffer = self._allocate()
            self.spare.append(buffer)
        buffer.clear_sums()
        return buffer

    def joint_memory(self, spans: Sequence[slice]) -> list[LaneMemory]:
        """Return, for each span of the vector, memory for it in each of this rank's lanes.

        Write one lane after the other, and make the lane's additions before the next: after the
        last lane the subtree sums are complete in this span. The first lane of a subtree is
        written to its place; the other lanes share scratch arrays, which stay in the cache.
        """
        longest = max((span.stop - span.start for span in spans), default=0)
        scratch = [np.empty(longest, self._dtype) for _ in range(self._scratch_count())]
        return [self._memory_of(span, scratch) for span in spans]

    def joint_tails(self, size: int) -> list[StepBuffer]:
        """Return a cleared buffer for each lane's sums after its ``size`` gradients."""
        if not self._tails:
            first = next(iter(self._places.values()))
            length = first.vector.size - size
            for lane in self.own:
                place = self._places.get(lane)
                own = np.empty(length, self._dtype) if place is None else place.vector[size:]
                self._tails.append(first.tail_over(own))
        for tail in self._tails:
            tail.vector.fill(0.0)
        return self._tails

    def add_joint_tails(self) -> None:
        """Add the sums of ``joint_tails`` in tree order."""
        sums: list[Buffer] = []
        for lane, tail in zip(self.own, self._tails, strict=True):
            right = tail.vector
            for _ in range(self.merges(lane)):
                left = sums.pop()
                left += right
                right = left
            sums.append(right)

    def _scratch_count(self) -> int:
        """Return the most sums of this rank that wait at once, without those in places."""
        waiting = most = 0
        for lane in self.own:
            waiting += lane not in self._places
            most = max(most, waiting)
            waiting -= self.merges(lane)
        return most

    def _memory_of(self, span: slice, scratch: Sequence[Buffer]) -> LaneMemory:
        """Return the memory of one span: places, and scratch arrays, used as a stack."""
        sums: list[Buffer] = []  # of complete subtrees, from left to right
        memory: LaneMemory = []
        used = 0
        for lane in self.own:
            place = self._places.get(lane)
            if place is None:
                own = scratch[used][: span.stop - span.start]
                used += 1
            else:
                own = place.vector[span]
            adds: list[tuple[Buffer, Buffer]] = []
            right = own
            for _ in range(self.merges(lane)):
                left = sums.pop()
                adds.append((left, right))
                right = left
                used -= 1
            sums.append(right)
            memory.append((own, adds))
        return memory

    def merges(self, lane: int) -> int:
        """Return how many sums on its left, from the nearest on, the lane is added to."""
        count = 0
        while not (lane + 1) % (2 << count) and lane + 1 - (2 << count) >= self.own.start:
            count += 1
        return count


@final
class Completion:
    """Adds the subtree sums of all ranks in tree order, in memory that every step uses.

    The subtree sums are overwritten. ``out`` receives the total; it may be the first of them.
    """

    def __init__(self, lanes: int, subtree_sums: Mapping[Node, Buffer], out: Buffer) -> None:
        self._lanes = lanes
        self._sums = subtree_sums
        self._additions: list[tuple[Buffer, Buffer, Buffer]] = []  # left, right, result
        self._copied: Buffer | None = None
        self._out = out
        top = root(lanes)
        while top not in subtree_sums and top.children[1].first >= lanes:
            top = top.children[0]  # nothing on the right: no sum
        if top in subtree_sums:
            self._copied = None if out is subtree_sums[top] else subtree_sums[top]
        else:
            left, right = (self._sum_of(child) for child in top.children)
            self._additions.append((left, right, out))

    def run(self) -> None:
        """Add up the subtree sums that the memory holds now."""
        if self._copied is not None:
            np.copyto(self._out, self._copied)
        for left, right, out in self._additions:
            np.add(left, right, out=out)

    def _sum_of(self, node: Node) -> Buffer:
        """Return the memory of a node's sum: that of the first subtree sum below the node."""
        if node in self._sums:
            return self._sums[node]
        left, right = node.children
        total = self._sum_of(left)
        if right.first < self._lanes:
            self._additions.append((total, self._sum_of(right), total))
        return total
