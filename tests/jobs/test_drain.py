"""A drained service starts no jobs, and its running jobs stop or end."""

from __future__ import annotations

from pathlib import Path

from dbp.job.failure import FailureReason
from dbp.job.state import State
from dbp.launch.launcher import Exit
from tests.jobs.fakes import control_plane, settle, spec


async def test_a_drained_job_is_queued_again_and_no_job_starts_before_the_end(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "state", slots=2) as plane:
        lifecycle = plane.manager.lifecycle
        running = await plane.manager.create(spec("a"), workers=1)
        await settle()

        assert lifecycle.begin_drain(stop=True) == [running.id]
        assert lifecycle.begin_drain(stop=True) == [running.id]
        waiting = await plane.manager.create(spec("b"), workers=1)
        assert plane.launcher.runs[running.id].stops == 1, "asked once"
        plane.launcher.runs[running.id].write_result("stopped", "stop_requested")
        plane.launcher.runs[running.id].end(Exit(exit_code=75))
        await settle()
        await plane.clock.advance(3_600.0)

        assert lifecycle.begin_drain(stop=True) == []
        assert plane.started == [running.id]
        for job in (running, waiting):
            found = await plane.manager.get(job.id)
            assert (found.state, found.failures) == (State.QUEUED, 0)
            assert "dbp admin undrain" in found.waiting_reason
        failure = (await plane.manager.get(running.id)).previous_failure
        assert failure is not None
        assert failure.reason is FailureReason.DRAINED
        await lifecycle.end_drain()
        await settle()
        assert plane.started == [running.id, running.id, waiting.id]


async def test_a_drain_lets_jobs_finish_if_it_is_asked_to(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "state") as plane:
        job = await plane.manager.create(spec("a"), workers=1)
        await settle()

        assert plane.manager.lifecycle.begin_drain(stop=False) == [job.id]
        plane.launcher.runs[job.id].write_result("succeeded")
        assert plane.launcher.runs[job.id].stops == 0
        plane.launcher.runs[job.id].end(Exit(exit_code=0))
        await settle()

        assert plane.manager.lifecycle.begin_drain(stop=False) == []
        assert (await plane.manager.get(job.id)).state is State.SUCCEEDED


async def test_a_job_whose_processes_start_during_a_drain_is_asked_to_stop(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "state") as plane:
        job = await plane.manager.create(spec("a"), workers=1)
        plane.manager.lifecycle.begin_drain(stop=True)
        await settle()

        assert plane.launcher.runs[job.id].stops == 1


async def test_a_restart_ends_the_drain(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "state") as plane:
        plane.manager.lifecycle.begin_drain(stop=True)
        job = await plane.manager.create(spec("a"), workers=1)
        await settle()
        assert plane.started == []
    async with control_plane(tmp_path / "state") as plane:
        assert plane.started == [job.id]
