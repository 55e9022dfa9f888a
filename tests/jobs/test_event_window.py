"""Resume tokens around both ends of the events that are kept, and of those in memory: each
event after the token comes exactly once, or the token is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dbp.errors import OutOfRange
from dbp.jobs.watch_items import Change
from tests.jobs.test_watch import Stage

KEPT, NEWEST = 10, 35
OLDEST = 30 - KEPT  # deleted with event 30, the last multiple of ten


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr("dbp.jobs.event_table._PRUNE_EVERY", 10)
    first = Stage(tmp_path / "dbp.sqlite")
    first.store._events_kept = KEPT
    for number in range(NEWEST):
        await first.create(f"job{number}")
    first.database.close()
    opened = Stage(tmp_path / "dbp.sqlite")  # as after a restart: no event is in memory
    await opened.table.load()
    yield opened
    opened.database.close()


async def sequences(stage: Stage, token: int, newest: int) -> list[int]:
    items = await stage.watch(after=token).take(newest - token)
    return [item.sequence for item in items if isinstance(item, Change)]


async def test_tokens_whose_next_events_are_kept_are_continued_without_a_gap(
    stage: Stage,
) -> None:
    for token in range(OLDEST, NEWEST + 1):
        assert await sequences(stage, token, NEWEST) == list(range(token + 1, NEWEST + 1))


@pytest.mark.parametrize("token", [1, OLDEST - 1, NEWEST + 1])
async def test_tokens_outside_are_refused(stage: Stage, token: int) -> None:
    with pytest.raises(OutOfRange, match=f"events {OLDEST} to {NEWEST} are kept"):
        await stage.watch(after=token).next()


async def test_the_newest_token_waits_for_the_next_event(stage: Stage) -> None:
    stream = stage.watch(after=NEWEST)
    await stage.create("next")

    item = await stream.next()

    assert isinstance(item, Change)
    assert item.sequence == NEWEST + 1


async def test_events_come_once_where_memory_begins(stage: Stage) -> None:
    for number in range(3):
        await stage.create(f"new{number}")
    newest = NEWEST + 3

    for token in range(OLDEST, newest):
        assert await sequences(stage, token, newest) == list(range(token + 1, newest + 1))
