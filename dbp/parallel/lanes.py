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

    def set_buffers(
        self, places: Sequence[StepBuffer], allocate: Callable[[], StepBuffer]
    ) -> None:
        """Set the buffers that receive the subtree sums, one for each own subtree.

        ``allocate`` returns a buffer for any other lane. A lane is added to the lane on its
        left, so that the buffer of the first lane of a subtree receives the subtree sum.
        """
        firsts = [node.first for node in self.own_subtrees]
        self._places = dict(zip(firsts, places, strict=True))
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

    def merges(self, lane: int) -> int:
        """Return how many sums on its left, from the nearest on, the lane is added to."""
        count = 0
        while not (lane + 1) % (2 << count) and lane + 1 - (2 << count) >= self.own.start:
            count += 1
        return count


def complete(lanes: int, subtree_sums: Mapping[Node, Buffer], out: Buffer) -> None:
    """Add the subtree sums of all ranks in tree order; write the total to ``out``.

    The subtree sums are overwritten. ``out`` may be the first of them.
    """
    top = root(lanes)
    while top not in subtree_sums and top.children[1].first >= lanes:
        top = top.children[0]  # nothing on the right: no sum
    if top in subtree_sums:
        if out is not subtree_sums[top]:
            np.copyto(out, subtree_sums[top])
        return
    left, right = (_sum_of(child, lanes, subtree_sums) for child in top.children)
    np.add(left, right, out=out)


def _sum_of(node: Node, lanes: int, subtree_sums: Mapping[Node, Buffer]) -> Buffer:
    """Return the sum of a node; it overwrites the first subtree sum below the node."""
    if node in subtree_sums:
        return subtree_sums[node]
    left, right = node.children
    total = _sum_of(left, lanes, subtree_sums)
    if right.first < lanes:
        total += _sum_of(right, lanes, subtree_sums)
    return total
