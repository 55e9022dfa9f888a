"""Jobs whose attempts fail: launched again, in their place, from their checkpoint, or ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import WrongState
from dbp.job.failure import FailureReason
from dbp.job.snapshot import encode_header
from dbp.job.state import Job, State
from dbp.jobs.link_fence import LinkNumber
from dbp.jobs.watch_items import Change
from dbp.launch.launcher import Exit, Running
from tests.jobs.fakes import (
    FakeLauncher,
    FakeRunning,
    Plane,
    control_plane,
    data,
    manifest,
    settle,
    spec,
    until,
)
from tests.jobs.runs import ended, finish

KILLED = Exit(exit_code=137)
RETRY = {"attempts": 3, "backoff_seconds": 2.0}


async def submitted(plane: Plane, **retry: Any) -> Job:
    job = await plane.manager.create(spec(retry=RETRY | retry), workers=1)
    await settle()
    return job


async def attach(plane: Plane, job_id: str, attempt: int) -> Any:
    connection = await plane.manager.attached(
        job_id, LinkNumber(attempt), world_size=1, host="node1", total_steps=100
    )
    await settle()
    return connection


async def in_state(plane: Plane, job_id: str, state: State) -> Job:
    async def reached() -> bool:
        return (await plane.manager.get(job_id)).state is state

    await until(reached)
    await settle()
    return await plane.manager.get(job_id)


async def test_a_killed_attempt_is_followed_by_one_that_resumes(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane)
        await attach(plane, job.id, 1)
        plane.launcher.checkpoints[job.id] = 40

        plane.launcher.runs[job.id].end(KILLED)

        waiting = await in_state(plane, job.id, State.QUEUED)
        assert waiting.waiting_reason == "attempt 2 starts in 2 s"
        failed = waiting.previous_failure
        assert failed is not None
        assert (failed.reason, failed.signal, failed.attempt) == ("RANK_SIGNAL", 9, 1)
        assert (failed.host, failed.checkpoint_step, failed.retry_helps) == ("node1", 40, True)
        await plane.clock.advance(2.0)
        again = await in_state(plane, job.id, State.STARTING)
        first, second = plane.launcher.requests
        assert (again.attempt, again.retry_time, again.previous_failure) == (2, None, failed)
        assert (first.attempt, first.resume) == (1, False)
        assert (second.attempt, second.resume) == (2, True)
        assert first.run == second.run == plane.folder.run_folder(job.id)
        assert first.secret != second.secret
        await attach(plane, job.id, 2)
        finish(plane, job.id)
        done = await ended(plane, job.id)
        assert (done.state, done.attempt, done.previous_failure) == (State.SUCCEEDED, 2, None)


async def test_a_job_that_waits_for_its_next_attempt_blocks_no_other(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        first = await submitted(plane)
        second = await submitted(plane)
        third = await submitted(plane)

        plane.launcher.runs[first.id].end(KILLED)

        await until(lambda: plane.started == [first.id, second.id])
        await plane.clock.advance(2.0)
        waiting = await plane.manager.get(first.id)
        assert waiting.waiting_reason == "needs 1 slot, 0 free; 1st in the queue"
        assert (await plane.manager.get(third.id)).waiting_reason.endswith("2nd in the queue")
        finish(plane, second.id)
        await until(lambda: plane.started == [first.id, second.id, first.id])
        finish(plane, first.id)
        await until(lambda: plane.started[-1] == third.id)


async def test_attempts_without_progress_back_off_and_end_with_all_facts(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane)
        waits = []
        for number in (1, 2, 3):
            await until(lambda number=number: len(plane.launcher.requests) == number)  # type: ignore[misc]
            await attach(plane, job.id, number)
            plane.launcher.runs[job.id].end(KILLED)
            if number < 3:
                waiting = await in_state(plane, job.id, State.QUEUED)
                assert waiting.retry_time is not None
                waits.append(waiting.retry_time - plane.clock.time())
                await plane.clock.advance(waits[-1])

        done = await ended(plane, job.id)

        assert waits == [2.0, 4.0]
        assert (done.state, done.attempt, done.failures) == (State.FAILED, 3, 3)
        assert done.failure is not None
        assert (done.failure.attempt, done.failure.signal, done.failure.host) == (3, 9, "node1")
        assert "3 attempts in a row" in done.failure.message
        assert plane.started == [job.id] * 3


async def test_progress_is_never_given_up(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane, attempts=1, backoff_seconds=0.0)
        for number in range(1, 6):
            await until(lambda number=number: len(plane.launcher.requests) == number)  # type: ignore[misc]
            plane.launcher.checkpoints[job.id] = 10 * number
            plane.launcher.runs[job.id].end(KILLED)

        await until(lambda: len(plane.launcher.requests) == 6)
        assert (await plane.manager.get(job.id)).failures == 0


async def test_events_show_every_attempt(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane, backoff_seconds=0.0)
        plane.launcher.runs[job.id].end(KILLED)
        await until(lambda: len(plane.launcher.requests) == 2)
        finish(plane, job.id)
        await ended(plane, job.id)

        changes = await plane.store.events_after(0, job_id=job.id)

        assert [change.kind for change in changes] == [
            "created", "started", "requeued", "started", "succeeded"
        ]  # fmt: skip
        requeued = changes[2]
        assert isinstance(requeued, Change)
        assert requeued.job.previous_failure is not None


async def chunks() -> AsyncIterator[bytes]:
    for chunk in data():
        yield chunk


async def test_the_next_attempt_knows_the_newest_version_and_the_old_one_publishes_no_more(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane, backoff_seconds=0.0)
        publish = plane.manager.publisher.publish
        rolled_back = manifest(4, **{"dbp.rollbacks": "2"})
        await publish(job.id, 1, step=30, manifest=rolled_back, chunks=chunks())
        plane.launcher.runs[job.id].end(KILLED)
        await until(lambda: len(plane.launcher.requests) == 2)

        with pytest.raises(WrongState, match="attempt 2, not 1"):
            await publish(job.id, 1, step=31, manifest=rolled_back, chunks=chunks())

        assert plane.launcher.requests[1].published == (2, 30)
        assert [v.step for v in (await plane.manager.versions.index(job.id)).kept] == [30]


async def test_an_upload_that_outlasts_its_attempt_is_not_recorded(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane, backoff_seconds=0.0)
        running = plane.launcher.runs[job.id]

        async def slow() -> AsyncIterator[bytes]:
            running.end(KILLED)
            await plane.clock.advance(0)
            await until(lambda: len(plane.launcher.requests) == 2)
            for chunk in data():
                yield chunk

        with pytest.raises(WrongState, match="attempt 1 publishes nothing more"):
            await plane.manager.publisher.publish(
                job.id, 1, step=30, manifest=manifest(), chunks=slow()
            )

        assert (await plane.manager.versions.index(job.id)).newest is None


async def test_final_parameters_of_an_earlier_attempt_are_not_those_of_the_last(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane, backoff_seconds=0.0)
        await plane.manager.publisher.publish(
            job.id, 1, step=6, manifest=manifest(), chunks=chunks(), final=True
        )
        plane.launcher.runs[job.id].end(KILLED)
        await until(lambda: len(plane.launcher.requests) == 2)
        run = plane.folder.run_folder(job.id)
        run.mkdir()
        (run / "parameters.safetensors").write_bytes(encode_header(manifest()) + b"p" * 16)

        finish(plane, job.id)

        done = await ended(plane, job.id)
        assert done.latest_parameters is not None
        assert (done.latest_parameters.attempt, done.latest_parameters.step) == (2, 7)


@pytest.mark.parametrize(
    ("status", "earlier_step", "newest"),
    [("stopped", 9, (1, 9)), ("stopped", 6, (2, 7)), ("succeeded", 9, (2, 7))],
)
async def test_an_attempt_that_stops_before_the_newest_version_publishes_nothing(
    tmp_path: Path, status: str, earlier_step: int, newest: tuple[int, int]
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane, backoff_seconds=0.0)
        await plane.manager.publisher.publish(
            job.id, 1, step=earlier_step, manifest=manifest(), chunks=chunks()
        )
        plane.launcher.runs[job.id].end(KILLED)
        await until(lambda: len(plane.launcher.requests) == 2)
        run = plane.folder.run_folder(job.id)
        run.mkdir()
        (run / "parameters.safetensors").write_bytes(encode_header(manifest()) + b"p" * 16)
        await plane.manager.cancel(job.id)

        finish(plane, job.id, status)

        done = await ended(plane, job.id)
        assert done.latest_parameters is not None
        assert (done.latest_parameters.attempt, done.latest_parameters.step) == newest


async def test_a_link_of_an_attempt_that_has_ended_is_refused(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane)
        plane.launcher.runs[job.id].end(KILLED)
        await in_state(plane, job.id, State.QUEUED)

        with pytest.raises(WrongState, match="QUEUED: attempt 1 has ended"):
            await attach(plane, job.id, 1)


async def test_a_result_of_an_earlier_attempt_does_not_count_for_a_later_one(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane, backoff_seconds=0.0)
        first = plane.launcher.runs[job.id]
        first.write_result("failed", "RANK_EXCEPTION", message="rank 0: OSError: x", rank=0)
        first.end(Exit(exit_code=1))
        await until(lambda: len(plane.launcher.requests) == 2)

        plane.launcher.runs[job.id].end(KILLED)

        waiting = await in_state(plane, job.id, State.STARTING)
        assert waiting.previous_failure is not None
        assert waiting.previous_failure.reason == "RANK_SIGNAL"
        assert waiting.exceptions == ("7: OSError: x",)


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
        await submitted(plane)
        first = await plane.manager.create(spec(), workers=2)
        await plane.manager.lifecycle.pause(first.id)
        second = await submitted(plane)
        plane.launcher.runs[second.id].end(KILLED)
        await in_state(plane, second.id, State.QUEUED)
        await plane.manager.lifecycle.resume(first.id)

    async with control_plane(tmp_path / "s", slots=2) as plane:
        await plane.clock.advance(60.0)

        waiting = await plane.manager.get(second.id)
        assert waiting.state is State.QUEUED
        assert waiting.waiting_reason == "needs 1 slot, 1 free; 2nd in the queue"


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
        await attach(plane, job.id, 1)

    async with control_plane(tmp_path / "s", FakeLauncher()) as plane:
        plane.launcher.checkpoints[job.id] = 12
        plane.launcher.runs[job.id].end(Exit(lost=True))

        again = await in_state(plane, job.id, State.STARTING)
        assert (again.attempt, again.checkpoint_step) == (2, 12)
        assert again.previous_failure is not None
        assert again.previous_failure.reason == "LOST_SUPERVISOR"


class Broken(FakeRunning):
    """An attempt that cannot be watched."""

    async def wait(self) -> Exit:
        raise RuntimeError("an unforeseen fault")


async def test_an_unforeseen_fault_of_the_watch_frees_the_slots(tmp_path: Path) -> None:
    made: list[Broken] = []

    def broken(folder: Path) -> Running:
        made.append(Broken(folder))
        return made[-1]

    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane, attempts=0)

    async with control_plane(tmp_path / "s", FakeLauncher(found=broken), slots=1) as plane:
        done = await ended(plane, job.id)
        other = await submitted(plane)

        assert done.failure is not None
        assert done.failure.reason is FailureReason.LAUNCH_FAILED
        assert "RuntimeError: an unforeseen fault" in done.failure.message
        assert [run.kills for run in made] == [1]
        assert plane.started == [other.id]


async def test_an_unforeseen_fault_of_a_launch_is_retried(tmp_path: Path) -> None:
    launcher = FakeLauncher(error=RuntimeError("an unforeseen fault"))
    async with control_plane(tmp_path / "s", launcher) as plane:
        job = await submitted(plane)
        waiting = await in_state(plane, job.id, State.QUEUED)
        launcher.error = None
        await plane.clock.advance(2.0)

        assert waiting.previous_failure is not None
        assert waiting.previous_failure.reason is FailureReason.LAUNCH_FAILED
        assert (await in_state(plane, job.id, State.STARTING)).attempt == 2


async def test_a_waiting_job_can_be_cancelled(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane)
        plane.launcher.runs[job.id].end(KILLED)
        await in_state(plane, job.id, State.QUEUED)

        cancelled = await plane.manager.cancel(job.id)
        await plane.clock.advance(2.0)

        assert (cancelled.state, cancelled.retry_time) == (State.CANCELLED, None)
        assert plane.started == [job.id]


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
