"""Jobs whose attempts fail: launched again, in their place, from their checkpoint, or ended."""

from __future__ import annotations

from pathlib import Path

from dbp.job.failure import FailureReason
from dbp.job.state import State
from dbp.jobs.watch_items import Change
from dbp.launch.launcher import Exit, Running
from tests.jobs.fakes import FakeLauncher, FakeRunning, control_plane, settle, until
from tests.jobs.runs import KILLED, attach, ended, finish, in_state, submitted


async def test_a_killed_attempt_is_followed_by_one_that_resumes(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await submitted(plane)
        await attach(plane, job, 1)
        await settle()
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
        await attach(plane, job, 2)
        await settle()
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
            await attach(plane, job, number)
            await settle()
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
