"""Who computes which rows of a mini-batch: pure functions of counts. No arrays, no ranks."""

from __future__ import annotations

from dataclasses import dataclass


def part(total: int, index: int, parts: int) -> tuple[int, int]:
    """The ``index``-th of ``parts`` runs of ``range(total)``; sizes differ by at most one."""
    return total * index // parts, total * (index + 1) // parts


@dataclass(frozen=True, order=True)
class Node:
    """A node of the fixed binary tree over lanes: lanes [index << level, ...) of 2^level."""

    level: int
    index: int

    @property
    def first(self) -> int:
        """Its first lane."""
        return self.index << self.level

    @property
    def sibling(self) -> Node:
        """The other half of the node above."""
        return Node(self.level, self.index ^ 1)

    @property
    def parent(self) -> Node:
        """The node above."""
        return Node(self.level + 1, self.index >> 1)

    @property
    def children(self) -> tuple[Node, Node]:
        """Its two halves."""
        return Node(self.level - 1, 2 * self.index), Node(self.level - 1, 2 * self.index + 1)


def root(lanes: int) -> Node:
    """The node that covers all lanes."""
    return Node((lanes - 1).bit_length(), 0)


def cover(start: int, stop: int) -> list[Node]:
    """The fewest nodes that cover the lanes [start, stop) exactly, in order."""
    nodes = []
    while start < stop:
        level = (start & -start).bit_length() - 1 if start else (stop - start).bit_length()
        while start + (1 << level) > stop:
            level -= 1
        nodes.append(Node(level, start >> level))
        start += 1 << level
    return nodes
