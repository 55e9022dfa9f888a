"""Cancelling jobs that are queued, starting, running or ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.errors import NotFound
from dbp.job.state import ProgressReport, State
from tests.jobs.fakes import control_plane, settle, spec
from tests.jobs.runs import attach, ended, finish


async def test_a_queued_job_is_cancelled_at_once(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        running = await plane.manager.create(spec(), workers=1)
        job = await plane.manager.create(spec(), workers=1)

        cancelled = await plane.manager.cancel(job.id)

        assert cancelled.state is State.CANCELLED
        finish(plane, running.id)
        await ended(plane, running.id)
        assert plane.started == [running.id]


async def test_a_running_job_is_asked_first_and_ends_cancelled(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        connection = await attach(plane, job)

        cancelled = await plane.manager.cancel(job.id)
        again = await plane.manager.cancel(job.id)

        request = await anext(connection)
        run = plane.launcher.runs[job.id]
        assert (cancelled.state, again) == (State.CANCELLING, cancelled)
        assert (request.stop, run.stops, run.kills) == (True, 0, 0)
        report = ProgressReport(2, 100, 1, 0.5, {}, 10.0, 9.5, 1.0)
        await plane.manager.reports.progress(job.id, 1, report)
        finish(plane, job.id, "stopped")
        done = await ended(plane, job.id)
        assert (done.state, done.failure) == (State.CANCELLED, None)
        assert done.progress is not None
        assert done.progress.step == 7
        await plane.clock.advance(60)
        assert run.kills == 0


@pytest.mark.parametrize("connected", [True, False])
async def test_a_job_that_does_not_stop_is_ended_by_force_after_the_grace(
    tmp_path: Path, connected: bool
) -> None:
    async with control_plane(tmp_path / "s", grace_seconds=10) as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        if connected:
            await attach(plane, job)
        run = plane.launcher.runs[job.id]

        await plane.manager.cancel(job.id)
        await plane.clock.advance(4.9)
        assert (run.stops, run.kills) == (0 if connected else 1, 0)
        await plane.clock.advance(5.0)
        assert (run.stops, run.kills) == (1 if connected else 2, 0), "by signal, too"
        await plane.clock.advance(0.2)

        assert run.kills == 1
        done = await ended(plane, job.id)
        assert done.state is State.CANCELLED
        assert done.failure is not None
        assert done.failure.reason == "FORCED"
        assert "had not stopped 10 s after `dbp cancel`" in done.failure.message


@pytest.mark.parametrize("first_gently", [True, False])
async def test_force_is_used_at_once_when_asked_for(tmp_path: Path, first_gently: bool) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        if first_gently:
            await plane.manager.cancel(job.id)

        await plane.manager.cancel(job.id, force=True)

        done = await ended(plane, job.id)
        assert done.state is State.CANCELLED
        assert done.failure is not None
        assert "killed at once, as `dbp cancel --force`" in done.failure.message
        assert plane.launcher.runs[job.id].kills == 1


async def test_a_job_cancelled_before_its_processes_are_known_is_stopped_then(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        gentle = await plane.manager.create(spec(), workers=1)
        await plane.manager.cancel(gentle.id)
        forced = await plane.manager.create(spec(), workers=1)
        await plane.manager.cancel(forced.id, force=True)

        assert (await ended(plane, forced.id)).state is State.CANCELLED
        assert plane.launcher.runs[gentle.id].stops == 1


@pytest.mark.parametrize(
    ("status", "state"), [("succeeded", State.SUCCEEDED), ("failed", State.FAILED)]
)
async def test_a_job_that_ended_by_itself_meanwhile_keeps_its_end(
    tmp_path: Path, status: str, state: State
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()

        await plane.manager.cancel(job.id)
        finish(plane, job.id, status)

        done = await ended(plane, job.id)
        assert done.state is state
        assert await plane.manager.cancel(job.id, force=True) == done


async def test_cancelling_an_unknown_job_raises_not_found(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        with pytest.raises(NotFound):
            await plane.manager.cancel("ghost")
