"""The model of a disk: the folders that a power cut can leave."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.durability.crash_states import BLOCK, Replay, Tree
from tests.durability.operations import (
    MakeFolder,
    Open,
    Operation,
    Remove,
    Rename,
    Sync,
    Truncate,
    Write,
)

OLD = b"o" * 3 * BLOCK
NEW = b"n" * 3 * BLOCK


def left(before: Tree, operations: Sequence[Operation]) -> list[Tree]:
    """All folders that a power cut after the operations can leave."""
    return list(Replay(before, operations).power_cuts(len(operations), random.Random(1)))


def write(path: str, data: bytes, *, handle: int = 1) -> list[Operation]:
    return [Open(handle, path, created=True), Write(handle, path, 0, data)]


def test_synced_bytes_with_a_synced_name_stay() -> None:
    operations = [*write("a", NEW), Sync(1, "a"), Open(2, "."), Sync(2, ".")]

    assert left({}, operations) == [{"a": NEW}]


def test_a_name_is_not_synced_with_its_file() -> None:
    assert {} in left({}, [*write("a", NEW), Sync(1, "a")])


def test_bytes_that_were_not_synced_may_be_absent_or_torn_at_a_block() -> None:
    found = left({}, [*write("a", NEW), Open(2, "."), Sync(2, ".")])

    sizes = {len(content) for tree in found if isinstance(content := tree["a"], bytes)}
    assert sizes == {0, 2 * BLOCK, 3 * BLOCK}
    assert {"a": bytes(2 * BLOCK) + NEW[2 * BLOCK :]} in found


def test_a_rename_before_a_sync_can_leave_an_empty_file() -> None:
    operations = [*write("t", NEW), Rename("t", "a"), Open(2, "."), Sync(2, ".")]

    assert {"a": b""} in left({"a": OLD}, operations)


def test_a_rename_is_atomic_and_may_be_absent() -> None:
    operations = [*write("t", NEW), Sync(1, "t"), Rename("t", "a")]
    found = left({"a": OLD}, operations)

    assert {"a": OLD} in found
    assert {"a": NEW} in found
    assert all(tree["a"] in (OLD, NEW) for tree in found)


def test_names_of_one_folder_may_become_durable_in_any_order() -> None:
    found = left({"a": b"1", "b": b"2"}, [Remove("a"), Remove("b")])

    assert {tuple(sorted(tree)) for tree in found} == {(), ("a",), ("b",), ("a", "b")}


def test_what_is_in_a_folder_goes_with_its_name() -> None:
    operations = [
        MakeFolder("f"),
        *write("f/a", NEW),
        Sync(1, "f/a"),
        Open(2, "f"),
        Sync(2, "f"),
    ]

    assert left({}, operations)[0] == {}
    assert {"f": None, "f/a": NEW} in left({}, operations)


def test_the_size_of_a_file_is_durable_with_its_bytes() -> None:
    operations: list[Operation] = [Open(1, "a"), Truncate(1, "a", 4), Write(1, "a", 6, b"x")]

    assert {"a": OLD} in left({"a": OLD}, operations)
    assert left({"a": OLD}, [*operations, Sync(1, "a")]) == [{"a": b"oooo\0\0x"}]


def test_a_kill_loses_nothing_that_was_done() -> None:
    operations = [*write("t", NEW), Rename("t", "a")]
    replay = Replay({"a": OLD}, operations)

    assert [replay.killed(at) for at in range(4)] == [
        {"a": OLD}, {"a": OLD, "t": b""}, {"a": OLD, "t": NEW}, {"a": NEW},
    ]  # fmt: skip
