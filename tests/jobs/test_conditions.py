"""Conditions of live jobs: noted in memory, shown, sent to watchers, never stored."""

from __future__ import annotations

import pytest

from dbp.job.failure import Condition, ConditionKind
from dbp.job.state import EventKind, State
from dbp.jobs.watch_items import Change, JobStatus
from tests.jobs.stage import Stage, kinds

STALLED, FULL = ConditionKind.STALLED, ConditionKind.DISK_FULL


def held(stage: Stage, name: str = "a") -> tuple[Condition, ...]:
    job = stage.table.live(name)
    assert job is not None
    return job.conditions


async def test_a_condition_keeps_its_time_until_it_holds_no_longer(stage: Stage) -> None:
    await stage.run("a")

    stage.table.note_condition("a", FULL, "/data is full")
    stage.clock.now += 5
    stage.table.note_condition("a", STALLED, "no step for 63 s")
    stage.table.note_condition("a", FULL, "/data and /tmp are full")
    both = held(stage)
    stage.table.note_condition("a", FULL, None)

    assert both == (
        Condition(STALLED, "no step for 63 s", 1_005.0),
        Condition(FULL, "/data and /tmp are full", 1_000.0),
    )
    assert held(stage) == both[:1]


async def test_watchers_are_sent_the_job_when_its_conditions_change(stage: Stage) -> None:
    await stage.run("a")
    await stage.run("b")
    stream, other = stage.watch("a"), stage.watch("b")
    first = await stream.next()
    await other.next()

    stage.table.note_condition("a", STALLED, "no step for 63 s")
    told = await stream.next()
    stage.table.note_condition("a", STALLED, "no step for 63 s")  # unchanged: nothing is sent
    stage.table.note_condition("b", FULL, "/data is full")
    stage.table.note_condition("a", STALLED, None)
    cleared = await stream.next()
    await stage.table.record("a", EventKind.SUCCEEDED)

    assert isinstance(first, JobStatus)
    assert isinstance(told, JobStatus)
    assert isinstance(cleared, JobStatus)
    assert [c.kind for c in told.job.conditions] == [STALLED]
    assert told.job.state is State.RUNNING
    assert told.resume == first.resume
    assert cleared.job.conditions == ()
    assert kinds(await stream.rest()) == ["succeeded", "End"]
    assert isinstance(await other.next(), JobStatus)


async def test_a_condition_is_sent_after_the_events_before_it(stage: Stage) -> None:
    await stage.create("a")
    stream = stage.watch("a")
    await stream.next()

    await stage.table.record("a", EventKind.STARTED)
    await stage.table.record("a", EventKind.RUNNING)
    stage.table.note_condition("a", STALLED, "no step for 63 s")

    assert kinds(await stream.take(3)) == ["started", "running", "JobStatus"]


@pytest.mark.parametrize(
    "kind", [EventKind.REQUEUED, EventKind.SUCCEEDED, EventKind.FAILED, EventKind.PAUSING]
)
async def test_the_end_of_an_attempt_ends_its_conditions(stage: Stage, kind: EventKind) -> None:
    await stage.run("a")
    stage.table.note_condition("a", STALLED, "no step for 63 s")
    stage.table.note_report("a")

    job = await stage.table.record("a", kind)

    lives = kind is EventKind.PAUSING
    assert bool(job.conditions) is lives
    assert (job.report_time is not None) is lives


async def test_a_job_that_has_ended_is_not_shown_as_it_was_before(stage: Stage) -> None:
    await stage.run("a")
    await stage.create("b")
    stream = stage.watch()
    await stream.take(2)

    stage.table.note_condition("a", STALLED, "no step for 63 s")
    await stage.table.record("a", EventKind.SUCCEEDED)
    await stage.table.record("b", EventKind.STARTED)

    assert kinds(await stream.take(2)) == ["succeeded", "started"]
    stage.events.close()
    assert kinds(await stream.rest()) == ["End"]


async def test_conditions_and_reports_are_lost_with_the_service(stage: Stage) -> None:
    await stage.run("a")
    stage.table.note_condition("a", STALLED, "no step for 63 s")
    stage.progress("a", 3)
    reported = await stage.table.get("a")
    await stage.table.record("a", EventKind.CANCELLING)

    (loaded,) = await stage.table.load()

    assert reported.report_time == 1_000.0
    assert (loaded.conditions, loaded.report_time) == ((), None)


async def test_conditions_of_jobs_that_have_ended_are_not_noted(stage: Stage) -> None:
    await stage.run("a")
    await stage.table.record("a", EventKind.SUCCEEDED)
    stream = stage.watch()
    await stream.next()

    stage.table.note_condition("a", STALLED, "no step for 63 s")
    stage.table.note_condition("unknown", STALLED, "no step for 63 s")
    stage.table.note_report("a")
    await stage.create("b")

    change = await stream.next()
    assert isinstance(change, Change)
    assert change.job.id == "b"
    assert (await stage.table.get("a")).conditions == ()
