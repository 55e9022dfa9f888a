"""Arithmetic of lanes: split a range evenly, and the nodes of the binary tree over lanes."""

from __future__ import annotations

from dataclasses import dataclass


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
