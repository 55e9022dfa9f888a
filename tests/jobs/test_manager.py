"""The manager: a job from queued to ended, the queue, pages, watching and logs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import InvalidInput, NotFound
from dbp.job.state import State, StreamEndReason
from dbp.jobs.watch_items import Change, End, JobStatus, LogChunk
from dbp.versions.index import At
from tests.jobs.fakes import control_plane, data, manifest, settle, spec, until
from tests.jobs.runs import attach, ended, finish


async def test_a_job_runs_from_queued_to_succeeded(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=2)
        await settle()
        connection = await attach(plane, job)
        await plane.manager.publisher.publish(
            job.id, 1, step=7, manifest=manifest(), chunks=data(), final=True
        )
        finish(plane, job.id)

        done = await ended(plane, job.id)

        assert (job.state, job.attempt) == (State.STARTING, 1)
        assert done.state is State.SUCCEEDED
        assert done.host == "node1"
        assert done.failure is None
        assert done.latest_parameters is not None
        assert [change.kind for change in await plane.store.events_after(0)] == [
            "created", "started", "running", "parameters_published", "succeeded",
        ]  # fmt: skip
        (request,) = plane.launcher.requests
        assert request.folder == plane.folder.path / "jobs" / job.id / "attempt-1"
        assert request.document == {"seed": 0, "retry": {"attempts": 0}, "name": "digits"}
        assert [item async for item in connection] == [], "the connection ends with the job"


async def test_nothing_is_remembered_of_the_versions_of_many_ended_jobs(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=20) as plane:
        manager = plane.manager
        jobs = [await manager.create(spec(), workers=1) for _ in range(20)]
        await settle()
        reading = []
        for job in jobs:
            await attach(plane, job)

            async def published(job_id: str = job.id) -> bool:
                return len(await manager.parameters.kept(job_id)) == 2

            reading.append(asyncio.create_task(manager.parameters.wait(job.id, published, 60)))
            await asyncio.gather(
                *(
                    manager.publisher.publish(
                        job.id, 1, step=step, manifest=manifest(), chunks=data()
                    )
                    for step in (1, 2, 2)
                )
            )
            await manager.parameters.move_label(job.id, "stable", At(1))
        await asyncio.gather(*reading)
        for job in jobs:
            finish(plane, job.id)
            await ended(plane, job.id)
        await settle()

        publisher = manager.publisher
        assert not publisher._under_way
        assert not publisher._publishing
        assert not manager.versions._changing
        assert not manager._events.versions._waiting
        assert not manager._connections._by_job


async def test_jobs_wait_in_order_and_say_why(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=4) as plane:
        jobs = [await plane.manager.create(spec(), workers=n) for n in (3, 2, 1)]
        await settle()

        assert plane.started == [jobs[0].id]
        waiting = await plane.manager.get(jobs[2].id)
        assert waiting.state is State.QUEUED
        assert waiting.waiting_reason == "needs 1 slot, 1 free; 2nd in the queue"
        assert (await plane.manager.get(jobs[0].id)).waiting_reason == ""

        finish(plane, jobs[0].id)
        await until(lambda: len(plane.started) == 3)
        assert plane.started == [job.id for job in jobs]


async def test_pages_of_jobs(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        ids = [(await plane.manager.create(spec(), workers=1)).id for _ in range(5)]

        first, token = await plane.manager.list(page_size=3)
        rest, end = await plane.manager.list(page_size=3, page_token=token)
        queued, _ = await plane.manager.list([State.QUEUED])

        assert [job.id for job in first + rest] == ids[::-1]
        assert end == ""
        assert [job.id for job in queued] == ids[:0:-1]
        assert first[0].waiting_reason.endswith("4th in the queue")
        with pytest.raises(InvalidInput, match="page_token"):
            await plane.manager.list(page_token="x")
        with pytest.raises(InvalidInput, match="page_size"):
            await plane.manager.list(page_size=-1)


async def test_watching_and_logs_through_the_manager(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        watching = plane.manager.watch(job.id)
        await anext(watching)
        path = await plane.manager.log_path(job.id)
        path.parent.mkdir(parents=True)
        path.write_text("hello\n")
        following = asyncio.ensure_future(_all(plane.manager.logs(job.id, follow=True)))
        finish(plane, job.id)

        assert await following == [LogChunk(("hello",), 6), End(StreamEndReason.JOB_ENDED, 6)]
        last = [item async for item in watching][-2:]
        assert isinstance(last[0], Change)
        assert last == [last[0], End(StreamEndReason.JOB_ENDED, last[0].sequence)]
        with pytest.raises(NotFound):
            await anext(plane.manager.watch("ghost"))
        with pytest.raises(NotFound, match="no attempt 2"):
            await plane.manager.log_path(job.id, 2)
        with pytest.raises(InvalidInput, match="offset"):
            await _all(plane.manager.logs(job.id, offset=-1))


async def test_a_watch_begun_before_the_end_and_read_after_it_ends(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        watching = plane.manager.watch(job.id)
        finish(plane, job.id)
        await ended(plane, job.id)

        first, last = await _all(watching)

        assert isinstance(first, JobStatus)
        assert first.job.state is State.SUCCEEDED
        assert isinstance(last, End)


async def test_a_change_is_reported_as_it_was_with_the_reason_for_waiting(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        watching = plane.manager.watch()
        first = asyncio.ensure_future(anext(watching))
        await settle()
        await plane.manager.create(spec(), workers=1)
        await plane.manager.create(spec(), workers=1)

        items = [await first, await anext(watching), await anext(watching)]

        received = [item.job for item in items if isinstance(item, Change)]
        assert [job.state for job in received] == ["QUEUED", "STARTING", "QUEUED"]
        assert [bool(job.waiting_reason) for job in received] == [False, False, True]


async def _all(items: Any) -> list[Any]:
    return [item async for item in items]
