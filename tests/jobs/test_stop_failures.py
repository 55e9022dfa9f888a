"""Runs that were asked to stop, and fail before they have."""

from __future__ import annotations

from pathlib import Path

from dbp.job.failure_text import attempt_text
from dbp.job.state import State
from dbp.launch.launcher import Exit
from tests.jobs.fakes import control_plane
from tests.jobs.runs import ended, in_state, running


async def test_a_run_that_fails_while_it_pauses_is_paused_unless_it_would_fail_again(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        killed, wild = await running(plane), await running(plane)
        for job in (killed, wild):
            await plane.manager.lifecycle.pause(job.id)
        plane.launcher.runs[killed.id].end(Exit(exit_code=137))
        plane.launcher.runs[wild.id].write_result("failed", "NON_FINITE")
        plane.launcher.runs[wild.id].end(Exit(exit_code=1))

        paused = await in_state(plane, killed.id, State.PAUSED)
        assert paused.previous_failure is not None
        assert paused.previous_failure.reason == "RANK_SIGNAL"
        assert (await ended(plane, wild.id)).state is State.FAILED


async def test_a_pause_whose_checkpoint_did_not_fit_says_which_step_is_kept(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await running(plane)
        plane.launcher.checkpoints[job.id] = 600
        await plane.manager.lifecycle.pause(job.id)
        run = plane.launcher.runs[job.id]
        message = "/run/checkpoints could not be written: No space left on device"
        run.write_result("failed", "NOT_WRITTEN", step=812, message=message, asked=True)
        run.end(Exit(exit_code=74))

        stopped = await in_state(plane, job.id, State.PAUSED)

        why = stopped.previous_failure
        assert why is not None
        assert (why.reason, why.step, why.checkpoint_step) == ("NOT_WRITTEN", 812, 600)
        assert (stopped.failure, stopped.failures, stopped.checkpoint_step) == (None, 0, 600)
        shown = attempt_text(why)
        assert message in shown
        assert "newest checkpoint of step 600, 212 steps to repeat" in shown


async def test_sigterm_on_a_full_disk_is_no_failure_of_the_job(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await running(plane, retry={"attempts": 1})
        run = plane.launcher.runs[job.id]
        run.write_result("failed", "NOT_WRITTEN", step=812, message="no space", asked=True)
        run.end(Exit(exit_code=74))

        queued = await in_state(plane, job.id, State.QUEUED)

        assert queued.failures == 0
        assert queued.previous_failure is not None
        assert queued.previous_failure.reason == "PREEMPTED"
        assert "no space" in queued.previous_failure.message
