"""Pause, resume and retry jobs, over a launcher without processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.job.state import Job, State
from dbp.launch.launcher import Exit
from tests.jobs.fakes import FakeLauncher, Plane, control_plane, data, manifest, settle, spec
from tests.jobs.runs import attach, ended, finish, in_state, paused, running, stop


async def kinds(plane: Plane) -> list[str]:
    return [change.kind for change in await plane.store.events_after(0)]


async def test_a_running_job_is_paused_and_resumed(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        connection = await attach(plane, job)
        other = await plane.manager.create(spec(), workers=1)

        answer = await plane.manager.lifecycle.pause(job.id)

        assert answer.state is State.PAUSING
        assert (await anext(connection)).stop
        assert (await plane.manager.get(other.id)).state is State.QUEUED
        stop(plane, job)
        stopped = await in_state(plane, job.id, State.PAUSED)
        assert (stopped.failure, stopped.previous_failure) == (None, None)
        assert (stopped.end_time, stopped.end_reason) == (None, "")
        assert plane.started == [job.id, other.id], "the slots are free"

        assert (await plane.manager.lifecycle.resume(job.id)).state is State.QUEUED
        finish(plane, other.id)
        await in_state(plane, job.id, State.STARTING)
        again = plane.launcher.requests[-1]
        assert (again.job_id, again.attempt) == (job.id, 2)
        assert [kind for kind in await kinds(plane) if kind in ("pausing", "paused", "resumed")]
        assert plane.launcher.runs[job.id].kills == 0


async def test_a_queued_job_is_paused_at_once_and_never_started(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        first = await running(plane)
        second, third = [await plane.manager.create(spec(), workers=1) for _ in range(2)]

        assert (await plane.manager.lifecycle.pause(second.id)).state is State.PAUSED

        finish(plane, first.id)
        await in_state(plane, third.id, State.STARTING)
        assert (await plane.manager.get(second.id)).state is State.PAUSED
        assert second.id not in plane.started


async def test_repeated_requests_change_nothing(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        job = await running(plane)
        lifecycle = plane.manager.lifecycle
        for _ in range(2):
            assert (await lifecycle.pause(job.id)).state is State.PAUSING
        stop(plane, job)
        await in_state(plane, job.id, State.PAUSED)
        assert (await lifecycle.pause(job.id)).state is State.PAUSED
        other = await running(plane)
        for _ in range(2):
            assert (await lifecycle.resume(job.id)).state is State.QUEUED
        assert (await lifecycle.resume(other.id)).state is State.RUNNING
        found = await kinds(plane)
        assert [found.count(kind) for kind in ("pausing", "paused", "resumed")] == [1, 1, 1]


@pytest.mark.parametrize("state", [State.PAUSING, State.PAUSED])
async def test_a_pause_survives_a_restart(tmp_path: Path, state: State) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        job = await running(plane)
        await plane.manager.lifecycle.pause(job.id)
        if state is State.PAUSED:
            stop(plane, job)
            await in_state(plane, job.id, State.PAUSED)

    async with control_plane(tmp_path / "s", slots=1) as plane:
        assert (await plane.manager.get(job.id)).state is state
        if state is State.PAUSING:
            assert plane.launcher.runs[job.id].stops == 1, "asked again, by signal"
            assert (await anext(await attach(plane, job))).stop, "and when it is connected"
            stop(plane, job)
            await in_state(plane, job.id, State.PAUSED)
        assert plane.started == []
        other = await plane.manager.create(spec(), workers=1)
        await settle()
        assert plane.started == [other.id], "a paused job holds no slots"


async def test_a_pausing_job_whose_run_is_gone_at_a_restart_is_paused(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await running(plane)
        await plane.manager.lifecycle.pause(job.id)

    async with control_plane(tmp_path / "s", FakeLauncher(found=lambda _: None)) as plane:
        assert (await in_state(plane, job.id, State.PAUSED)).previous_failure is None
        assert plane.started == []


async def test_a_run_that_does_not_stop_is_signalled_then_killed_and_paused(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s", pause_grace_seconds=60.0) as plane:
        job = await running(plane)
        await plane.manager.lifecycle.pause(job.id)
        run = plane.launcher.runs[job.id]
        assert (run.stops, run.kills) == (0, 0), "it is asked over its connection"
        await plane.clock.advance(30)
        assert (run.stops, run.kills) == (1, 0)
        await plane.clock.advance(29)
        assert run.kills == 0

        await plane.clock.advance(1)

        assert run.kills == 1
        stopped = await in_state(plane, job.id, State.PAUSED)
        assert stopped.previous_failure is not None
        assert stopped.previous_failure.reason == "FORCED"
        assert "not stopped 1 min 00 s after `dbp pause`" in stopped.previous_failure.message
        assert (await plane.manager.lifecycle.resume(job.id)).state is not State.PAUSED


async def test_a_grace_of_an_earlier_request_does_not_kill_a_later_attempt(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await paused(plane)
        await plane.manager.lifecycle.resume(job.id)
        await in_state(plane, job.id, State.STARTING)

        await plane.clock.advance(600)

        assert plane.launcher.runs[job.id].kills == 0
        assert (await plane.manager.get(job.id)).state is State.STARTING


async def test_a_cancel_of_a_pausing_job_has_its_own_grace(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", pause_grace_seconds=60.0) as plane:
        job = await running(plane)
        await plane.manager.lifecycle.pause(job.id)
        await plane.clock.advance(10)

        await plane.manager.cancel(job.id, grace_seconds=300.0)

        run = plane.launcher.runs[job.id]
        await plane.clock.advance(299)
        assert run.kills == 0
        await plane.clock.advance(1)
        assert run.kills == 1
        assert (await ended(plane, job.id)).state is State.CANCELLED


async def test_a_paused_job_can_be_cancelled(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await paused(plane)

        assert (await plane.manager.cancel(job.id)).state is State.CANCELLED
        assert (await plane.manager.get(job.id)).failure is None


async def test_a_run_that_ends_before_it_sees_the_request_has_succeeded(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await running(plane)
        await plane.manager.lifecycle.pause(job.id)
        finish(plane, job.id)

        assert (await ended(plane, job.id)).state is State.SUCCEEDED


async def test_a_version_at_a_pause_is_not_final(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await running(plane)
        await plane.manager.lifecycle.pause(job.id)
        await plane.manager.publisher.publish(
            job.id, 1, step=7, manifest=manifest(), chunks=data(), final=True
        )
        assert (await plane.manager.versions.find(job.id)).final
        stop(plane, job)
        stopped = await in_state(plane, job.id, State.PAUSED)

        assert stopped.latest_parameters is not None
        assert not stopped.latest_parameters.final
        assert not (await plane.manager.versions.find(job.id)).final
        (entry,), _ = await plane.manager.parameters.history(job.id, 0, "")
        assert not entry.version.final


async def test_a_job_that_waits_after_a_failure_is_paused_and_resumed_at_once(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await running(plane, retry={"attempts": 3, "backoff_seconds": 30.0})
        plane.launcher.runs[job.id].end(Exit(exit_code=137))
        waiting = await in_state(plane, job.id, State.QUEUED)
        assert waiting.retry_time is not None

        assert (await plane.manager.lifecycle.pause(job.id)).state is State.PAUSED
        await plane.clock.advance(60)
        assert len(plane.launcher.requests) == 1, "the backoff starts no paused job"

        await plane.manager.lifecycle.resume(job.id)
        await in_state(plane, job.id, State.STARTING)
        assert (await plane.manager.get(job.id)).previous_failure is not None


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
async def test_a_retry_keeps_the_failure_and_continues_from_the_checkpoint(
    tmp_path: Path, state: State
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await running(plane)
        plane.launcher.checkpoints[job.id] = 5
        if state is State.FAILED:
            plane.launcher.runs[job.id].write_result("failed", "NON_FINITE")
            plane.launcher.runs[job.id].end(Exit(exit_code=1))
        else:
            await plane.manager.cancel(job.id)
            stop(plane, job)
        before = await in_state(plane, job.id, state)
        assert before.checkpoint_step == 5

        for _ in range(2):  # the second call changes nothing
            again = await plane.manager.lifecycle.retry(job.id)

        assert again.state in (State.QUEUED, State.STARTING)
        assert (again.failure, again.end_time, again.failures) == (None, None, 0)
        assert again.previous_failure == before.failure
        await in_state(plane, job.id, State.STARTING)
        request = plane.launcher.requests[-1]
        assert (request.attempt, request.resume) == (2, True)
        assert [kind for kind in await kinds(plane) if kind == "retried"] == ["retried"]


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_resumed_job_comes_last_whether_the_service_was_restarted(
    tmp_path: Path, *, restarted: bool
) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        first = await running(plane)
        job, waiting = [await plane.manager.create(spec(), workers=1) for _ in range(2)]
        await plane.manager.lifecycle.pause(job.id)
        if not restarted:
            await _resumed_after(plane, first, waiting, job)

    if restarted:
        async with control_plane(tmp_path / "s", slots=1) as plane:
            await _resumed_after(plane, first, waiting, job)


async def _resumed_after(plane: Plane, first: Job, waiting: Job, job: Job) -> None:
    """Resume ``job``; it starts after ``waiting``, which was queued before."""
    await settle()
    await plane.manager.lifecycle.resume(job.id)
    finish(plane, first.id)
    await in_state(plane, waiting.id, State.STARTING)
    assert job.id not in plane.started
