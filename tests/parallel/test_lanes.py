from __future__ import annotations

import itertools

from dbp.parallel.lanes import Node, cover, part, root


def test_parts_are_contiguous_cover_everything_and_differ_by_at_most_one() -> None:
    for total in (0, 1, 7, 60, 128):
        for parts in (1, 2, 3, 8, 64):
            runs = [part(total, i, parts) for i in range(parts)]

            assert runs[0][0] == 0
            assert runs[-1][1] == total
            assert all(a[1] == b[0] for a, b in itertools.pairwise(runs))
            sizes = [stop - start for start, stop in runs]
            assert max(sizes) - min(sizes) <= 1


def test_a_cover_is_exact_aligned_and_minimal() -> None:
    for start in range(20):
        for stop in range(start, 21):
            nodes = cover(start, stop)

            lanes = [n.first + i for n in nodes for i in range(1 << n.level)]
            assert lanes == list(range(start, stop))
            assert not any(Node(node.level, node.index ^ 1) in nodes for node in nodes)


def test_the_root_covers_all_lanes() -> None:
    assert root(1) == Node(0, 0)
    assert root(8) == Node(3, 0)
    assert root(9) == Node(4, 0)
