"""Watch one job or all: snapshots, changes, progress, heartbeats and ends, each once."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest

from dbp.errors import OutOfRange
from dbp.job.state import EventKind, Job, State, StreamEndReason
from dbp.jobs import watch as feed_module
from dbp.jobs.job_table import JobTable
from dbp.jobs.store import Store
from dbp.jobs.watch import EventBroadcaster
from dbp.jobs.watch_items import Change, End, Heartbeat, JobStatus, ProgressItem
from dbp.storage.database import Database
from tests.jobs.fakes import FakeClock
from tests.jobs.stage import Stage, kinds


async def test_one_job_from_snapshot_to_end(stage: Stage) -> None:
    await stage.create("a")
    stream = stage.watch("a")
    first = await stream.next()
    await stage.create("other")
    await stage.table.record("a", EventKind.STARTED)
    await stage.table.record("a", EventKind.RUNNING)
    await stage.table.record("a", EventKind.SUCCEEDED)

    rest = await stream.rest()

    assert isinstance(first, JobStatus)
    assert first.job.state is State.QUEUED
    assert kinds(rest) == ["started", "running", "succeeded", "End"]
    assert rest[-1] == End(StreamEndReason.JOB_ENDED, rest[-2].resume)


async def test_an_ended_job_is_a_snapshot_and_an_end(stage: Stage) -> None:
    await stage.create("a")
    await stage.table.record("a", EventKind.CANCELLED)

    items = await stage.watch("a").rest()
    again = await stage.watch("a", items[-1].resume).rest()

    assert kinds(items) == ["JobStatus", "End"]
    assert kinds(again) == ["End"]


async def test_resuming_anywhere_sends_every_change_once(stage: Stage) -> None:
    for name in ("a", "b", "c"):
        await stage.run(name)
        await stage.table.record(name, EventKind.SUCCEEDED)
    everything = [change.sequence for change in await stage.store.events_after(0)]

    for after in everything:
        stage.events.close()
        received = await stage.watch(None, after).rest()
        sequences = [item.sequence for item in received if isinstance(item, Change)]
        assert sequences == [number for number in everything if number > after]
        assert isinstance(received[-1], End)


async def test_all_jobs_begin_with_a_snapshot_of_each(stage: Stage) -> None:
    for name in ("a", "b", "c"):
        await stage.create(name)
    stream = stage.watch()

    items = await stream.take(2)
    await stage.table.record("a", EventKind.STARTED)  # while its snapshot is still to come
    items += await stream.take(2)

    assert [item.job.id for item in items if isinstance(item, JobStatus)] == ["c", "b", "a"]
    assert [item.resume for item in items[:2]] == [0, 0], "no resuming amid the snapshots"
    assert items[2].resume > 0
    assert kinds(items) == ["JobStatus", "JobStatus", "JobStatus", "started"]


async def test_a_snapshot_that_has_a_change_is_not_followed_by_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_PAGE", 1)
    for name in ("a", "b", "c"):
        await stage.create(name)
    stream = stage.watch()

    items = [await stream.next()]
    await stage.table.record("a", EventKind.STARTED)
    await stage.table.record("a", EventKind.RUNNING)
    stage.events.close()
    items += await stream.rest()

    received = [(item.job.id, item.job.state) for item in items if isinstance(item, JobStatus)]
    assert received == [("c", "QUEUED"), ("b", "QUEUED"), ("a", "RUNNING")]
    assert kinds(items) == ["JobStatus", "JobStatus", "JobStatus", "End"]


async def test_a_slow_watcher_gets_every_change_and_the_newest_progress(
    stage: Stage,
) -> None:
    await stage.run("a")
    await stage.run("b")
    stream = stage.watch()
    await stream.take(2)
    for step in range(1, 1_001):
        stage.progress("a", step)
    for number in range(feed_module.RECENT_CHANGES + 500):
        await stage.create(f"job{number}")

    items = await stream.take(feed_module.RECENT_CHANGES + 501)

    sequences = [item.sequence for item in items if isinstance(item, Change)]
    (progress,) = [item for item in items if isinstance(item, ProgressItem)]
    assert sequences == list(range(7, 7 + feed_module.RECENT_CHANGES + 500))
    assert (progress.progress.step, progress.skipped) == (1_000, 999)


async def test_progress_before_the_end_is_reported_before_the_end(stage: Stage) -> None:
    await stage.run("a")
    stream = stage.watch("a")
    await stream.next()
    stage.progress("a", 1)
    stage.progress("a", 2)
    await stage.table.record("a", EventKind.SUCCEEDED)

    items = await stream.rest()

    assert kinds(items) == ["ProgressItem", "succeeded", "End"]
    assert isinstance(items[0], ProgressItem)
    assert (items[0].progress.step, items[0].skipped) == (2, 1)


async def test_silence_is_filled_with_heartbeats(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "dbp.sqlite", heartbeat_seconds=0.02)
    await stage.create("a")
    stream = stage.watch("a")

    items = await stream.take(3)
    await stage.table.record("a", EventKind.CANCELLED)

    assert kinds(items) == ["JobStatus", "Heartbeat", "Heartbeat"]
    assert isinstance(items[1], Heartbeat)
    assert "cancelled" in kinds(await stream.rest())
    stage.database.close()


async def test_draining_sends_the_remaining_events_and_ends(stage: Stage) -> None:
    await stage.create("a")
    stream = stage.watch("a")
    await stream.next()

    await stage.table.record("a", EventKind.STARTED)
    stage.events.close()

    items = await stream.rest()
    assert kinds(items) == ["started", "End"]
    assert isinstance(items[-1], End)
    assert items[-1].reason == "draining"


async def test_a_resume_point_out_of_range_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path / "dbp.sqlite")
    store = Store(database, events_kept=10)
    events = EventBroadcaster(store, heartbeat_seconds=60, view=lambda job: job)
    table = JobTable(store, events, FakeClock())
    for number in range(1_000):
        await table.create(Job(f"job{number}", {}, "", 1, State.QUEUED, 0.0))

    for after in (989, 1_001):
        with pytest.raises(OutOfRange, match="events 990 to 1000 are kept"):
            await anext(events.watch(None, after))
    events.close()
    assert len([item async for item in events.watch(None, 990)]) == 11
    database.close()


async def test_an_abandoned_watcher_leaves_nothing_behind(stage: Stage) -> None:
    await stage.create("a")
    items = stage.events.watch("a", None)
    await anext(items)

    await items.aclose()  # type: ignore[attr-defined]

    assert not stage.events._watchers


async def test_progress_is_sent_after_the_changes_that_came_before_it(stage: Stage) -> None:
    await stage.create("a")
    await stage.create("b")
    stream = stage.watch(after=1)
    await stream.next()  # which it is still sending while all of this happens:

    await stage.run("c")
    stage.progress("c", 5)

    items = await stream.take(4)
    assert kinds(items) == ["created", "started", "running", "ProgressItem"]


async def test_a_watcher_that_is_too_slow_for_the_kept_events_is_refused_not_skipped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.jobs.event_table._PRUNE_EVERY", 10)
    stage.store._events_kept = 10
    stage.events._recent = deque(maxlen=5)
    await stage.create("a")
    await stage.create("b")
    stream = stage.watch(after=1)
    await stream.next()

    for number in range(28):
        await stage.create(f"c{number}")

    with pytest.raises(OutOfRange, match="events 20 to 30 are kept"):
        await stream.next()


async def test_a_job_without_news_can_be_watched_on_when_others_events_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.jobs.event_table._PRUNE_EVERY", 10)
    stage = Stage(tmp_path / "dbp.sqlite", heartbeat_seconds=0.02)
    stage.store._events_kept = 10
    stage.events._recent = deque(maxlen=5)
    await stage.create("quiet")
    stream = stage.watch("quiet")
    silence = await stream.next()
    for number in range(29):
        await stage.create(f"other{number}")
        silence = await stream.next()

    assert isinstance(silence, Heartbeat)
    resumed = stage.watch("quiet", after=silence.resume)
    await stage.table.record("quiet", EventKind.STARTED)

    for watcher in (stream, resumed):
        while isinstance(item := await watcher.next(), Heartbeat):
            pass
        assert kinds([item]) == ["started"]
    stage.database.close()
