"""Jobs that are created, cancelled or started while commits are slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dbp.errors import DbpError, ResourceExhausted
from dbp.job.state import Job, State
from dbp.launch.launcher import Exit, Running
from tests.jobs.fakes import FakeLauncher, Plane, control_plane, settle, spec
from tests.jobs.races import commit_begins, running
from tests.storage.slow_commits import SlowCommits


@pytest.fixture
async def plane(tmp_path: Path, slow: SlowCommits) -> AsyncIterator[Plane]:
    async with control_plane(tmp_path / "state", slots=1) as plane:
        yield plane


async def test_the_same_request_many_times_at_once_makes_and_starts_one_job(
    plane: Plane,
) -> None:
    jobs = await asyncio.gather(
        *(plane.manager.create(spec(), workers=1, request_id="r") for _ in range(50))
    )
    runs = await asyncio.gather(
        *(
            plane.manager.register(spec(), workers=1, request_id="by hand", host="h")
            for _ in range(10)
        )
    )
    await settle()

    assert len({job.id for job in jobs}) == 1
    assert len({job.id for job, _ in runs}) == 1
    assert plane.started == [jobs[0].id]
    assert len(await plane.store.live()) == 2


async def test_many_requests_at_once_fill_the_queue_to_its_limit(
    tmp_path: Path, slow: SlowCommits
) -> None:
    async with control_plane(tmp_path / "state", slots=1, max_queued=3) as plane:
        made = await asyncio.gather(
            *(plane.manager.create(spec(f"n{number}"), workers=1) for number in range(20)),
            return_exceptions=True,
        )

        jobs = [job for job in made if isinstance(job, Job)]
        assert len(jobs) == 4, "one runs and three wait"
        assert all(isinstance(e, ResourceExhausted) for e in made if not isinstance(e, Job))
        assert {job.id for job in await plane.store.live()} == {job.id for job in jobs}
        assert plane.started == [(await plane.store.live())[0].id], "the first one"


async def test_a_job_whose_creator_goes_away_during_the_commit_starts(
    plane: Plane, slow: SlowCommits
) -> None:
    creating = asyncio.create_task(plane.manager.create(spec(), workers=1))
    await commit_begins(slow)

    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    await settle()

    (job,) = await plane.store.live()
    assert job.state is State.STARTING
    assert plane.started == [job.id]


async def test_a_cancel_request_during_the_commit_of_the_start_stops_the_run(
    plane: Plane, slow: SlowCommits
) -> None:
    creating = asyncio.create_task(plane.manager.create(spec(), workers=1))
    await commit_begins(slow, 2)  # the first one created the job
    (job,) = await plane.store.live()

    cancelled = await plane.manager.cancel(job.id)
    await creating
    await settle()

    assert cancelled.state is State.CANCELLING
    assert plane.launcher.runs[job.id].stops == 1
    kinds = [change.kind for change in await plane.store.events_after(0)]
    assert kinds == ["created", "started", "cancelling"]


async def test_a_waiting_job_that_is_cancelled_as_its_slot_becomes_free_does_not_start(
    plane: Plane, slow: SlowCommits
) -> None:
    first = await plane.manager.create(spec(), workers=1)
    second = await plane.manager.create(spec(), workers=1)
    third = await plane.manager.create(spec(), workers=1)
    await settle()

    cancelling = asyncio.create_task(plane.manager.cancel(second.id))
    plane.launcher.runs[first.id].write_result("succeeded")
    plane.launcher.runs[first.id].end(Exit(exit_code=0))
    cancelled = await cancelling
    await settle()

    assert cancelled.state in (State.CANCELLED, State.CANCELLING)
    if cancelled.state is State.CANCELLED:
        assert plane.started == [first.id, third.id]
    else:
        assert plane.launcher.runs[second.id].stops == 1


async def test_a_full_disk_during_a_start_leaves_the_queue_in_order(
    plane: Plane, slow: SlowCommits
) -> None:
    jobs = [await plane.manager.create(spec(), workers=1) for _ in range(3)]
    plane.database._writer.execute("PRAGMA query_only = ON")
    with pytest.raises(DbpError, match="nothing was changed"):
        await plane.manager.cancel(jobs[0].id)
    plane.database._writer.execute("PRAGMA query_only = OFF")
    plane.launcher.runs[jobs[0].id].end(Exit(exit_code=0))
    await settle()

    assert plane.started == [jobs[0].id, jobs[1].id]


async def test_a_run_that_is_cancelled_while_a_new_service_looks_for_it_keeps_its_grace(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "state") as plane:
        job = await running(plane)
    looking = asyncio.Event()

    class SlowLauncher(FakeLauncher):
        async def adopt(self, folder: Path) -> Running | None:
            await looking.wait()
            return await super().adopt(folder)

    launcher = SlowLauncher()
    async with control_plane(tmp_path / "state", launcher, grace_seconds=10.0) as plane:
        await plane.manager.cancel(job.id, grace_seconds=100.0)
        looking.set()

        await plane.clock.advance(99.0)
        assert launcher.runs[job.id].stops == 2  # once more after half of the grace
        assert launcher.runs[job.id].kills == 0
        await plane.clock.advance(1.0)
        assert launcher.runs[job.id].kills == 1
