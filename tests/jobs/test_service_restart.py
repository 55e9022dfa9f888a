"""A service that stops and starts again while jobs run."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.errors import Unauthenticated, Unavailable
from dbp.job.state import State, StreamEndReason
from dbp.jobs.job_queue import JobQueue
from dbp.jobs.link_fence import LinkNumber
from dbp.jobs.watch_items import End
from dbp.launch.launcher import Exit
from tests.jobs.fakes import FakeLauncher, FakeRunning, control_plane, settle, spec, until
from tests.jobs.runs import attach, ended, finish


async def test_a_restart_loses_nothing_and_disturbs_nothing(tmp_path: Path) -> None:
    launcher = FakeLauncher()
    async with control_plane(tmp_path / "s", launcher, slots=2) as plane:
        running = await plane.manager.create(spec(), workers=1)
        cancelling = await plane.manager.create(spec(), workers=1)
        queued = [(await plane.manager.create(spec(), workers=1)).id for _ in range(3)]
        await settle()
        await attach(plane, running)
        await attach(plane, cancelling)
        await plane.manager.cancel(cancelling.id)
    assert [run.kills for run in launcher.runs.values()] == [0, 0]

    launcher = FakeLauncher()
    async with control_plane(tmp_path / "s", launcher, slots=2) as plane:
        assert (await plane.manager.get(running.id)).state is State.RUNNING
        assert len(launcher.adopted) == 2
        assert launcher.requests == []
        assert launcher.runs[cancelling.id].stops == 1
        await plane.clock.advance(10)
        assert launcher.runs[cancelling.id].kills == 1
        finish(plane, running.id)
        assert (await ended(plane, running.id)).state is State.SUCCEEDED
        assert (await ended(plane, cancelling.id)).state is State.CANCELLED
        await until(lambda: plane.started == queued[:2])
        assert (await plane.manager.get(queued[2])).waiting_reason.endswith("1st in the queue")


async def test_jobs_that_ended_while_the_service_was_down_are_settled(tmp_path: Path) -> None:
    launcher = FakeLauncher()
    async with control_plane(tmp_path / "s", launcher) as plane:
        jobs = [await plane.manager.create(spec(), workers=1) for _ in range(2)]
        await settle()
    launcher.runs[jobs[0].id].write_result("succeeded")

    def gone(folder: Path) -> FakeRunning:
        run = FakeRunning(folder)
        run.end(Exit(lost=True))
        return run

    async with control_plane(tmp_path / "s", FakeLauncher(found=gone)) as plane:
        done, lost = [await ended(plane, job.id) for job in jobs]

        assert done.state is State.SUCCEEDED
        assert lost.failure is not None
        assert lost.failure.reason == "LOST_SUPERVISOR"


async def test_a_job_that_was_promised_a_start_but_never_started_is_started(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        old_secret = plane.launcher.requests[0].secret

    async with control_plane(tmp_path / "s", FakeLauncher(found=lambda _: None)) as plane:
        assert plane.started == [job.id]
        request = plane.launcher.requests[0]
        assert request.attempt == 1
        await plane.manager.authorize(job.id, LinkNumber(1), request.secret)
        with pytest.raises(Unauthenticated):
            await plane.manager.authorize(job.id, LinkNumber(1), old_secret)


async def test_closing_refuses_new_jobs_and_ends_streams(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        connection = await attach(plane, job)
        watching = plane.manager.watch(job.id)
        await anext(watching)

        await plane.manager.close()

        assert await anext(watching) == End(StreamEndReason.DRAINING, 3)
        assert [item async for item in connection] == []
        with pytest.raises(Unavailable):
            await plane.manager.create(spec(), workers=1)
        assert plane.launcher.runs[job.id].kills == 0


async def test_a_restart_with_fewer_slots_looks_through_the_queue_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path / "s", slots=4) as plane:
        jobs = [await plane.manager.create(spec(), workers=4) for _ in range(20)]
        await settle()
        assert plane.started == [jobs[0].id]
    looks, take = 0, JobQueue.take

    def counted(queue: JobQueue) -> str | None:
        nonlocal looks
        looks += 1
        return take(queue)

    monkeypatch.setattr(JobQueue, "take", counted)
    async with control_plane(tmp_path / "s", slots=2) as plane:
        await settle()
        assert looks == 1
        waiting = await plane.manager.get(jobs[-1].id)
        assert waiting.waiting_reason.startswith("needs 4 slots, this service has 2")
