"""Versions that are kept, and those that labels, pins and steps name."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from dbp.errors import NotFound, OutOfRange, VersionEvicted, VersionNotFound
from dbp.versions import tables as store_versions
from dbp.versions.index import At
from tests.versions.shelf import Shelf


async def test_index_after_changes_is_the_index_of_the_stored_rows(shelf: Shelf) -> None:
    for step in range(1, 6):
        await shelf.publish(step, best=step in (2, 4), keep=2)
        await shelf.move(f"label-{step % 2}", step, keep=2, time=float(step))
        assert await shelf.versions.index("a") == await shelf.store.versions("a")
    await shelf.publish(5, final=True, keep=2)
    await shelf.pin(5, pinned=True, keep=2)
    for label, version in (("label-1", 0), ("label-1", 0), ("best", 2), ("label-0", 5)):
        await shelf.move(label, version, keep=1, time=9.0)
        assert await shelf.versions.index("a") == await shelf.store.versions("a")
    await shelf.pin(5, pinned=False, keep=1)
    await shelf.publish(6, keep=1)

    assert await shelf.versions.index("a") == await shelf.store.versions("a")
    assert await shelf.kept() == [2, 4, 5, 6]


async def test_the_newest_and_the_final_are_kept(shelf: Shelf) -> None:
    await shelf.publish(0, final=True)
    for step in range(1, 6):
        await shelf.publish(step, keep=2)

    assert await shelf.kept() == [1, 5, 6]
    with pytest.raises(OutOfRange, match="version 3 is no longer kept; kept: 1, 5, 6"):
        await shelf.versions.open("a", At(3))
    with pytest.raises(NotFound, match="the newest is 6"):
        await shelf.versions.open("a", At(7))


async def test_the_best_pinned_and_labelled_are_kept_too(shelf: Shelf) -> None:
    for step in range(1, 4):
        await shelf.publish(step, best=step == 2, keep=3)
    await shelf.pin(1, pinned=True, keep=3)
    await shelf.move("stable", 3, time=1.0, keep=3)
    for step in range(4, 9):
        await shelf.publish(step, keep=2)

    assert await shelf.kept() == [1, 2, 3, 7, 8]
    assert (await shelf.versions.index("a")).labels == {"best": 2, "stable": 3}
    assert (await shelf.versions.index("a")).find(At(label="best")).step == 2
    await shelf.publish(9, best=True, keep=2)
    assert await shelf.kept() == [1, 3, 8, 9], "the version that was best before has gone"
    await shelf.move("stable", 8, time=2.0, keep=2)
    assert await shelf.kept() == [1, 3, 8, 9], "3 is the version that an undo needs"
    await shelf.move("stable", 0, time=3.0, keep=2)
    await shelf.pin(1, pinned=False, keep=2)
    assert await shelf.kept() == [8, 9]
    moves = (await shelf.store.labels("a", moves=10))[1]
    assert [(move.label, move.version) for move in moves] == [
        ("best", 2), ("stable", 3), ("best", 9), ("stable", 8), ("stable", 0),
    ]  # fmt: skip


async def test_a_step_that_turns_out_to_be_the_best_is_labelled(shelf: Shelf) -> None:
    first = await shelf.publish(1)

    assert await shelf.publish(1, best=True) == first

    assert (await shelf.versions.index("a")).labels == {"best": 1}


async def test_labels_and_pins_survive_a_restart(tmp_path: Path) -> None:
    shelf = await Shelf.opened(tmp_path / "state")
    await shelf.publish(1, best=True)
    await shelf.publish(2)
    await shelf.pin(2, pinned=True, keep=3)
    before = await shelf.versions.index("a")
    shelf.close()

    shelf = await Shelf.opened(tmp_path / "state")

    assert await shelf.versions.index("a") == before
    assert dict(before.labels) == {"best": 1}
    assert before.pinned == frozenset({2})
    shelf.close()


async def test_latest_is_a_name_of_the_newest(shelf: Shelf) -> None:
    await shelf.publish(1)
    newest = await shelf.publish(2)

    for name in ("latest", "newest"):
        assert (await shelf.versions.index("a")).find(At(label=name)) == newest


async def test_of_many_moves_the_last_ones_stay_and_those_that_say_where_labels_are(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_versions, "MOVES_KEPT", 10)
    for step in (1, 2):
        await shelf.publish(step)
    move = partial(shelf.move, keep=3)
    await move("stable", 1, time=1.0)
    await move("removed", 1, time=2.0)
    await move("removed", 0, time=3.0)
    await move("gone", 1, time=4.0)
    await move("gone", 0, time=5.0)
    await move("gone", 0, time=6.0)

    for number in range(100):
        await move("live", 1 + number % 2, time=10.0 + number)

    index = await shelf.versions.index("a")
    moves = (await shelf.store.labels("a", moves=1_000))[1]
    assert index.labels == {"stable": 1, "live": 2}
    assert index.left == {"live": 1, "removed": 1}, "moves that can be undone stay"
    assert index.moved == {"stable": 1.0, "removed": 3.0, "live": 109.0}
    assert 10 <= len(moves) <= 22
    assert [move.label for move in moves[:3]] == ["stable", "removed", "live"]
    assert [move.time for move in moves] == sorted(move.time for move in moves)
    assert moves[-1].time == 109.0


async def test_steps_that_are_not_kept_differ_from_steps_to_come(shelf: Shelf) -> None:
    for step in (3, 5, 9):
        await shelf.publish(step, keep=2)
    await shelf.publish(5, final=True, keep=2)  # kept: steps 9 and 5
    index = await shelf.versions.index("a")

    assert index.find(At(step=5)).version == 4
    with pytest.raises(VersionEvicted, match="kept are steps 5, 9"):
        index.find(At(step=3))
    with pytest.raises(VersionNotFound):
        index.find(At(step=10))
