"""Runs that connect, report and end while commits are slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dbp.errors import WrongState
from dbp.job.state import EventKind, Job, RunOutcome, State
from dbp.jobs.connections import Request, RunConnection
from dbp.jobs.watch_items import Change
from tests.jobs.fakes import Plane, control_plane, data, manifest, settle, spec
from tests.jobs.races import commit_begins, report, running
from tests.jobs.runs import attach
from tests.storage.slow_commits import SlowCommits


@pytest.fixture
async def plane(tmp_path: Path, slow: SlowCommits) -> AsyncIterator[Plane]:
    async with control_plane(tmp_path / "state", slots=1) as plane:
        yield plane


@pytest.mark.parametrize("first", ["attach", "cancel"])
async def test_a_run_that_connects_as_it_is_cancelled_is_asked_to_stop(
    tmp_path: Path, slow: SlowCommits, first: str
) -> None:
    async with control_plane(tmp_path / "state") as plane:
        job, _ = await plane.manager.register(spec(), workers=1, request_id="", host="h")
        calls = {"attach": attach(plane, job), "cancel": plane.manager.cancel(job.id)}
        order = [first, *({*calls} - {first})]

        made = await asyncio.gather(*(calls[name] for name in order))

        (connection,) = [item for item in made if isinstance(item, RunConnection)]
        async with asyncio.timeout(10):
            assert await anext(connection) == Request(stop=True)


async def test_a_run_that_goes_away_while_it_connects_is_not_connected(
    plane: Plane, slow: SlowCommits
) -> None:
    job = await plane.manager.create(spec(), workers=1)
    connecting = asyncio.create_task(attach(plane, job))
    await commit_begins(slow)

    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting

    assert (await plane.manager.get(job.id)).state is State.RUNNING
    assert not plane.manager._connections.ask(job.id, stop=True)


async def test_an_outcome_whose_reporter_goes_away_ends_the_job(
    tmp_path: Path, slow: SlowCommits
) -> None:
    async with control_plane(tmp_path / "state") as plane:
        job, _ = await plane.manager.register(spec(), workers=1, request_id="", host="h")
        await attach(plane, job)
        reporting = asyncio.create_task(
            plane.manager.reports.outcome(job.id, 1, RunOutcome("succeeded", "epochs", 7))
        )
        await commit_begins(slow)

        reporting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reporting
        await settle()

        assert (await plane.manager.get(job.id)).state is State.SUCCEEDED


async def test_progress_that_is_reported_during_a_commit_is_not_lost(
    plane: Plane, slow: SlowCommits
) -> None:
    job = await running(plane)
    await plane.manager.reports.progress(job.id, 1, report(1))
    publishing = asyncio.create_task(
        plane.manager.publisher.publish(job.id, 1, step=1, manifest=manifest(), chunks=data())
    )
    await commit_begins(slow)

    await plane.manager.reports.progress(job.id, 1, report(2))
    await publishing

    assert (await plane.manager.get(job.id)).progress == report(2)
    await plane.manager.cancel(job.id)
    assert (await plane.store.get(job.id)).progress == report(2), "durable with the next event"


async def test_two_ends_of_one_job_are_one_end(plane: Plane) -> None:
    job = await running(plane)
    ends = [
        plane.manager._table.record(job.id, kind)
        for kind in (EventKind.SUCCEEDED, EventKind.FAILED, EventKind.CANCELLED)
    ]

    made = await asyncio.gather(*ends, return_exceptions=True)

    assert sum(isinstance(item, Job) for item in made) == 1
    assert sum(isinstance(item, WrongState) for item in made) == 2


async def test_changes_are_announced_in_the_order_of_their_commits_when_they_are_shown(
    plane: Plane,
) -> None:
    job = await running(plane)
    shown: list[tuple[int, int]] = []

    async def watch() -> None:
        async for item in plane.manager.watch(None, 1):
            if isinstance(item, Change):
                now = await plane.manager.get(item.job.id)
                shown.append((item.sequence, now.sequence))

    watching = asyncio.create_task(watch())
    await asyncio.gather(
        *(plane.manager.create(spec(), workers=1) for _ in range(10)),
        *(
            plane.manager.publisher.publish(
                job.id, 1, step=step, manifest=manifest(), chunks=data()
            )
            for step in range(1, 6)
        ),
    )
    await settle()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)

    sequences = [sequence for sequence, _ in shown]
    assert sequences == list(range(2, 2 + len(sequences)))
    assert len(sequences) == 2 + 10 + 5
    assert all(present >= sequence for sequence, present in shown)


async def test_a_run_that_is_connected_before_it_is_given_up_continues(
    tmp_path: Path, slow: SlowCommits
) -> None:
    async with control_plane(tmp_path / "state", lost_contact_seconds=10.0) as plane:
        job, _ = await plane.manager.register(spec(), workers=1, request_id="", host="h")
        await settle()
        creating = asyncio.create_task(plane.manager.create(spec(), workers=1))
        await commit_begins(slow)
        connecting = asyncio.create_task(attach(plane, job))  # waits for its turn

        await plane.clock.advance(10.0)
        await asyncio.gather(creating, connecting)
        await settle()

        assert (await plane.manager.get(job.id)).state is State.RUNNING
        plane.manager._connections.detach(await connecting)
        await plane.clock.advance(10.0)
        assert (await plane.manager.get(job.id)).state is State.FAILED
