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
from typing import final

import numpy as np

from dbp.parallel.communicator import Buffer
from dbp.parallel.lanes import Node, cover, part, root
from dbp.parallel.step_buffer import StepBuffer


@final
class LaneSums:
    """The lanes of one rank, and their subtree sums.

    Attributes:
        lanes: Number of lanes of the mini-batch, over all ranks.
        subtrees: For each rank, the largest nodes of the tree inside its lanes, in order.
        own_subtrees: The same for this rank.
    """

    def __init__(self, lanes: int, rank: int, ranks: int) -> None:
        """Raises ValueError for more ranks than lanes."""
        if ranks > lanes:
            raise ValueError(f"{ranks} ranks cannot share {lanes} lanes")
        self.lanes = lanes
        self.subtrees = [cover(*part(lanes, index, ranks)) for index in range(ranks)]
        self.own_subtrees = self.subtrees[rank]
        self._first, self._last = part(lanes, rank, ranks)
        self._taken = self._added = 0
        self._reduced: slice | None = None
        self._sums: list[tuple[Node, StepBuffer]] = []
        self._free: list[StepBuffer] = []

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

    def lane_rows(self, rows: int) -> list[tuple[int, int]]:
        """Return [start, stop) of each of this rank's lanes, in a part of ``rows`` rows."""
        return [part(rows, lane, self.lanes) for lane in range(self._first, self._last)]

    def take(self) -> StepBuffer:
        """Return a cleared buffer for the next lane."""
        lane = self._first + self._taken
        self._taken += 1
        buffer = self._places.get(lane)
        if buffer is None:
            buffer = self._free.pop() if self._free else self._allocate()
        buffer.clear_sums()
        self._latest = buffer
        return buffer

    def reduce_early(self, part_: slice) -> None:
        """Add this slice early, while it is in cache; slices arrive from the vector's end."""
        right = self._latest
        for left in self._lefts()[1]:
            left.vector[part_] += right.vector[part_]
            right = left
        end = part_.stop if self._reduced is None else self._reduced.stop
        self._reduced = slice(part_.start, end)

    def add(self, buffer: StepBuffer) -> None:
        """Add the next lane, and every node of the tree that it completes."""
        node, lefts = self._lefts()
        done = self._reduced
        rest = [slice(None)] if done is None else [slice(done.start), slice(done.stop, None)]
        for left in lefts:
            for part_ in rest:
                left.vector[part_] += buffer.vector[part_]
            self._sums.pop()
            self._free.append(buffer)
            buffer = left
        self._sums.append((node, buffer))
        self._added += 1
        self._reduced = None

    def finish(self) -> None:
        """End the step: subtree sums are complete. Raises RuntimeError if a lane is missing."""
        if self._added != self._last - self._first:
            raise RuntimeError(f"{self._added} lanes of {self._last - self._first} were added")
        self._sums.clear()
        self._taken = self._added = 0

    def _lefts(self) -> tuple[Node, list[StepBuffer]]:
        """Return the node that the next lane completes, and the sums to add it to, in order."""
        node = Node(0, self._first + self._added)
        lefts = []
        for other, sums in reversed(self._sums):
            if node.index % 2 == 0 or other != node.sibling:
                break
            lefts.append(sums)
            node = node.parent
        return node, lefts


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
