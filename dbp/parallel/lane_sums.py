"""The lanes of a mini-batch, added up in one fixed binary tree. It sends nothing.

The tree does not know the ranks. A rank adds what lies wholly inside its own lanes, so that a
handful of nodes remain, its *summits*; an exchange completes the tree above them. With as many
lanes as a power of two times the ranks there is one summit a rank.

A sum of floating-point numbers depends on its order, so this order is the promise. The other
way to a sum that does not is fixed-point: scale to int64, for which MPI's own sum is free of
order. Measured (2 ranks, one host, float32, ``tests/benchmarks/exact_sum.py``): the int64 sum
sends twice the bytes, converts every lane's gradients twice, and needs a scale that all ranks
agree on before every step; it took 3 to 4 times the time of the tree through messages.
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
    """One rank's lanes: who computes which rows, and their sums as far as they reach."""

    def __init__(self, lanes: int, rank: int, ranks: int) -> None:
        """Raises ValueError for more ranks than lanes."""
        if ranks > lanes:
            raise ValueError(f"{ranks} ranks cannot share {lanes} lanes")
        self.lanes = lanes
        self.summits = [cover(*part(lanes, index, ranks)) for index in range(ranks)]
        self.own_summits = self.summits[rank]
        self._first, self._last = part(lanes, rank, ranks)
        self._taken = self._added = 0
        self._settled: slice | None = None
        self._sums: list[tuple[Node, StepBuffer]] = []
        self._free: list[StepBuffer] = []

    def use(self, places: Sequence[StepBuffer], allocate: Callable[[], StepBuffer]) -> None:
        """Let each own summit's sum come to stand in its place; ``allocate`` gives the rest.

        Lanes are added to their left neighbor, so a summit stands where its first lane stood.
        """
        firsts = [node.first for node in self.own_summits]
        self._places = dict(zip(firsts, places, strict=True))
        self._allocate = allocate

    def shares(self, rows: int) -> list[tuple[int, int]]:
        """The rows [start, stop) of each of this rank's lanes."""
        return [part(rows, lane, self.lanes) for lane in range(self._first, self._last)]

    def take(self) -> StepBuffer:
        """A cleared buffer for the next lane."""
        lane = self._first + self._taken
        self._taken += 1
        buffer = self._places.get(lane)
        if buffer is None:
            buffer = self._free.pop() if self._free else self._allocate()
        buffer.clear_sums()
        self._latest = buffer
        return buffer

    def settle(self, part_: slice) -> None:
        """Add this part of the newest lane ahead of the rest; parts come from the end down."""
        right = self._latest
        for left in self._lefts()[1]:
            left.vector[part_] += right.vector[part_]
            right = left
        end = part_.stop if self._settled is None else self._settled.stop
        self._settled = slice(part_.start, end)

    def add(self, buffer: StepBuffer) -> None:
        """Add the next lane; two halves of a larger node are added up at once."""
        node, lefts = self._lefts()
        done = self._settled
        rest = [slice(None)] if done is None else [slice(done.start), slice(done.stop, None)]
        for left in lefts:
            for part_ in rest:
                left.vector[part_] += buffer.vector[part_]
            self._sums.pop()
            self._free.append(buffer)
            buffer = left
        self._sums.append((node, buffer))
        self._added += 1
        self._settled = None

    def finish(self) -> None:
        """All lanes are added: the summits stand in their places. The next step may begin."""
        if self._added != self._last - self._first:
            raise RuntimeError(f"{self._added} lanes of {self._last - self._first} were added")
        self._sums.clear()
        self._taken = self._added = 0

    def _lefts(self) -> tuple[Node, list[StepBuffer]]:
        """The node that the next lane completes, and the sums it is added to on the way."""
        node = Node(0, self._first + self._added)
        lefts = []
        for other, sums in reversed(self._sums):
            if node.index % 2 == 0 or other != node.sibling:
                break
            lefts.append(sums)
            node = node.parent
        return node, lefts


def complete(lanes: int, summits: Mapping[Node, Buffer], out: Buffer) -> None:
    """Add the summits up to the root, into ``out``; they are changed on the way.

    ``out`` may be the first summit itself.
    """
    top = root(lanes)
    while top not in summits and top.children[1].first >= lanes:
        top = top.children[0]  # nothing on the right: no sum
    if top in summits:
        if out is not summits[top]:
            np.copyto(out, summits[top])
        return
    left, right = (_sum_of(child, lanes, summits) for child in top.children)
    np.add(left, right, out=out)


def _sum_of(node: Node, lanes: int, summits: Mapping[Node, Buffer]) -> Buffer:
    """The node's sum, added up from the summits below it, in place of the first of them."""
    if node in summits:
        return summits[node]
    left, right = node.children
    total = _sum_of(left, lanes, summits)
    if right.first < lanes:
        total += _sum_of(right, lanes, summits)
    return total
