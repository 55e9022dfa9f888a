"""Steps of users after the start of a job: pause, resume, retry, delete."""

from __future__ import annotations

import contextlib
from typing import Final

from dbp.errors import JobNotFound
from dbp.job.state import State
from dbp.launch.launcher import Exit
from dbp.storage.checkpoints import CHECKPOINTS
from dbp.train.state.checkpoint import CheckpointStore
from tests.durability.act import Acknowledger
from tests.durability.checkpoint_acts import SHAPES, checkpoint
from tests.durability.service_acts import Step
from tests.jobs.fakes import Plane, settle

STEP: Final = 7  # of the checkpoint that a run writes


def pause(job_id: str, state: State) -> Step:
    """A client pauses a job that waits (PAUSED) or runs (PAUSING)."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        job = await plane.manager.lifecycle.pause(job_id)
        assert job.state is state, job.state
        acknowledge(f"{job_id} {state}")

    return step


def resume(job_id: str) -> Step:
    """A client resumes a paused job."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        await plane.manager.lifecycle.resume(job_id)
        acknowledge(f"{job_id} QUEUED")

    return step


def retry(job_id: str) -> Step:
    """A client retries a job that ended with a checkpoint."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        plane.launcher.checkpoints[job_id] = STEP
        await plane.manager.lifecycle.retry(job_id)
        acknowledge(f"{job_id} QUEUED")

    return step


def stop(job_id: str, state: State) -> Step:
    """The run, which was asked to stop, ends with a checkpoint."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        if (await plane.manager.get(job_id)).state is not state:
            plane.launcher.runs[job_id].write_result("stopped", "stop_requested")
            plane.launcher.runs[job_id].end(Exit(exit_code=75))
            await settle()
        assert (await plane.manager.get(job_id)).state is state
        acknowledge(f"{job_id} {state}")

    return step


def write_files(job_id: str) -> Step:
    """The run of a job leaves a checkpoint and a log."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        run = plane.folder.run_folder(job_id)
        run.mkdir(parents=True)
        store = CheckpointStore(run / CHECKPOINTS, SHAPES, "float32", keep=1)
        store.write(checkpoint(STEP), {}, best=True)
        attempt = plane.folder.attempt_folder(job_id, 1)
        attempt.mkdir()
        (attempt / "log.txt").write_text("log\n")

    return step


def delete(job_id: str) -> Step:
    """A client deletes an ended job."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        with contextlib.suppress(JobNotFound):  # a service that was killed has deleted it
            await plane.manager.lifecycle.delete(job_id)
        acknowledge(f"{job_id} deleted")

    return step


def clean_up(seconds: float, *deleted: str) -> Step:
    """Time passes, until jobs exceed their time to live."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        await plane.clock.advance(seconds)
        assert sorted(await plane.store.ended.deleted(["a-1", "b-1"])) == sorted(deleted)
        acknowledge(f"{deleted[0]} deleted")

    return step
