"""Resume tokens around both ends of the events that are kept, and of those in memory: each
event after the token comes exactly once, or the token is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from dbp.errors import OutOfRange
from dbp.job.state import EventKind
from dbp.jobs.watch_items import Change, Heartbeat
from tests.jobs.stage import Stage, Window, kinds

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


async def test_a_quiet_watch_can_be_resumed_however_many_events_others_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Window(tmp_path / "dbp.sqlite", monkeypatch)
    await stage.create("quiet")
    first = await stage.watch("quiet").next()
    await stage.others(59)

    resumed = stage.watch("quiet", after=first.resume)
    silence = await resumed.next()
    await stage.table.record("quiet", EventKind.STARTED)

    assert isinstance(silence, Heartbeat)
    while isinstance(item := await resumed.next(), Heartbeat):
        pass
    assert kinds([item]) == ["started"]
    with pytest.raises(OutOfRange, match="events 50 to 61 are kept"):
        await stage.watch(after=first.resume).next()
    stage.database.close()


async def test_a_live_watch_outlasts_more_events_of_others_than_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Window(tmp_path / "dbp.sqlite", monkeypatch)
    await stage.create("quiet")
    stream = stage.watch("quiet")
    await stream.next()
    await stage.others(45)  # it waits meanwhile
    await stage.table.record("quiet", EventKind.STARTED)

    while isinstance(item := await stream.next(), Heartbeat):
        pass
    assert kinds([item]) == ["started"]
    stage.database.close()


async def test_a_heartbeat_has_the_newest_resume_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Window(tmp_path / "dbp.sqlite", monkeypatch)
    await stage.create("quiet")
    stream = stage.watch("quiet")
    await stream.next()
    other = replace(await stage.store.get("quiet"), id="other")
    waiting = asyncio.create_task(stream.next())
    await asyncio.sleep(0)  # it waits for an event
    for sequence in (2, 3, 4):  # in one turn of the event loop, so that no heartbeat is due
        stage.events.announce(Change(sequence, 0.0, EventKind.CREATED, other))

    assert await waiting == Heartbeat(4)
    stage.database.close()


@pytest.mark.parametrize("missing", [False, True])
async def test_only_a_deleted_event_of_the_watched_job_is_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    stage = Window(tmp_path / "dbp.sqlite", monkeypatch)
    await stage.create("a")
    await stage.others(1)
    await stage.table.record("a", EventKind.STARTED)  # event 3, deleted with event 20
    await stage.others(20)
    await stage.table.record("a", EventKind.RUNNING)

    stream = stage.watch("a", after=2 if missing else 3)

    if missing:
        with pytest.raises(OutOfRange, match="events 3 to 24 of job a are kept"):
            await stream.next()
    else:
        assert kinds([await stream.next()]) == ["running"]
    stage.database.close()
