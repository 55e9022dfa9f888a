"""Jobs between two attempts while the service restarts, or its clock is set back."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.job.state import State
from dbp.launch.launcher import Exit
from tests.jobs.fakes import FakeLauncher, Plane, control_plane, settle, spec, until
from tests.jobs.runs import KILLED, attach, ended, finish, in_state, running, submitted


async def test_a_restart_of_the_service_neither_skips_nor_repeats_the_wait(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane, backoff_seconds=8.0)
        plane.launcher.runs[job.id].end(KILLED)
        await in_state(plane, job.id, State.QUEUED)

    for now, reason in ((1_003.0, "attempt 2 starts in 5 s"), (1_007.0, "in 1 s")):
        async with control_plane(tmp_path / "s", at=now) as plane:
            assert (await plane.manager.get(job.id)).waiting_reason.endswith(reason)
            assert plane.started == []
    async with control_plane(tmp_path / "s", at=1_007.0) as plane:
        await plane.clock.advance(1.0)
        await until(lambda: plane.started == [job.id])
    async with control_plane(tmp_path / "s", at=990.0) as plane:
        assert len(plane.launcher.adopted) == 1


async def test_a_restart_keeps_the_places_of_jobs_that_ran_and_of_those_that_did_not(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s", slots=2) as plane:
        failed = await submitted(plane)
        running = await submitted(plane)
        waiting = [await plane.manager.create(spec(), workers=2) for _ in range(2)]
        plane.launcher.runs[failed.id].end(KILLED)
        await in_state(plane, failed.id, State.QUEUED)
        assert (await plane.manager.get(waiting[0].id)).waiting_reason.endswith(
            "2nd in the queue"
        )

    async with control_plane(tmp_path / "s", slots=2) as plane:
        for job, place in zip(waiting, ("2nd", "3rd"), strict=True):
            reason = (await plane.manager.get(job.id)).waiting_reason
            assert reason == f"needs 2 slots, 1 free; {place} in the queue"
        await plane.clock.advance(60.0)

        assert plane.started == [failed.id]
        assert (await plane.manager.get(running.id)).state is State.STARTING


async def test_a_restart_leaves_resumed_and_retried_jobs_at_the_end_of_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.jobs.event_table._PRUNE_EVERY", 1)

    async def order(plane: Plane) -> list[str]:
        queued = [job for job in await plane.store.live() if job.state is State.QUEUED]
        reasons = {job.id: (await plane.manager.get(job.id)).waiting_reason for job in queued}
        return sorted(reasons, key=lambda job_id: reasons[job_id].split("; ")[1])

    async with control_plane(tmp_path / "s", slots=1) as plane:
        plane.store._events_kept = 1  # the place of a job is in no event any more
        retried = await running(plane)
        plane.launcher.checkpoints[retried.id] = 7
        await plane.manager.cancel(retried.id)
        finish(plane, retried.id, "stopped", code=75)
        await ended(plane, retried.id)
        await running(plane)
        resumed, *others = [await plane.manager.create(spec(), workers=1) for _ in range(3)]
        await plane.manager.lifecycle.pause(resumed.id)
        await plane.manager.lifecycle.resume(resumed.id)
        await plane.manager.lifecycle.retry(retried.id)
        last = await plane.manager.create(spec(), workers=1)
        expected = [*(job.id for job in others), resumed.id, retried.id, last.id]
        assert await order(plane) == expected

    for now in (1_000.0, -1e9):  # of a clock that was set back meanwhile, too
        async with control_plane(tmp_path / "s", slots=1, at=now) as plane:
            assert await order(plane) == expected


async def test_a_clock_that_is_set_back_keeps_no_job_waiting_for_ever(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane)
        plane.launcher.runs[job.id].end(KILLED)
        await in_state(plane, job.id, State.QUEUED)

    async with control_plane(tmp_path / "s", at=-1e9) as plane:
        await plane.clock.advance(60.0)

        await until(lambda: plane.started == [job.id])


async def test_an_adopted_attempt_that_fails_is_repeated_too(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane, backoff_seconds=0.0)
        await attach(plane, job, 1)
        await settle()

    async with control_plane(tmp_path / "s", FakeLauncher()) as plane:
        plane.launcher.checkpoints[job.id] = 12
        plane.launcher.runs[job.id].end(Exit(lost=True))

        again = await in_state(plane, job.id, State.STARTING)
        assert (again.attempt, again.checkpoint_step) == (2, 12)
        assert again.previous_failure is not None
        assert again.previous_failure.reason == "LOST_SUPERVISOR"


async def test_a_run_of_an_older_dbp_ends_by_its_own_files_and_is_resumed(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        done = await submitted(plane)
        job = await submitted(plane, backoff_seconds=0.0)
        for each in (done, job):
            (plane.folder.attempt_folder(each.id, 1) / "run").mkdir(parents=True)
        result = '{"status": "succeeded", "reason": "epochs", "step": 7, "epoch": 1}'
        (plane.folder.run_of(done.id, 1) / "result.json").write_text(result)
        (plane.folder.run_of(job.id, 1) / "metrics.jsonl").write_text("a line")

        plane.launcher.runs[done.id].end(Exit(exit_code=0))
        plane.launcher.runs[job.id].end(KILLED)

        assert (await ended(plane, done.id)).state is State.SUCCEEDED
        await until(lambda: len(plane.launcher.requests) == 3)
        request = plane.launcher.requests[-1]
        assert (request.job_id, request.resume) == (job.id, True)
        assert (request.run / "metrics.jsonl").read_text() == "a line"
        assert plane.folder.run_of(job.id, 2) == request.run
