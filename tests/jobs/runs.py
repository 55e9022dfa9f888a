"""Connect, finish and wait for the jobs of a control plane."""

from __future__ import annotations

from typing import Any

from dbp.job.state import Job, RunOutcome, State
from dbp.jobs.connections import RunConnection
from dbp.jobs.link_fence import LinkNumber
from dbp.launch.launcher import Exit
from tests.jobs.fakes import Plane, settle, spec, until

SUCCEEDED = RunOutcome("succeeded", "epochs", 7)
KILLED = Exit(exit_code=137)
RETRY = {"attempts": 3, "backoff_seconds": 2.0}


async def ended(plane: Plane, job_id: str) -> Job:
    """The job when it has ended."""
    return await in_state(plane, job_id, *(state for state in State if state.terminal))


async def in_state(plane: Plane, job_id: str, *states: State) -> Job:
    """The job when it has one of these states."""

    async def reached() -> bool:
        return (await plane.manager.get(job_id)).state in states

    await until(reached)
    await settle()
    return await plane.manager.get(job_id)


async def attach(plane: Plane, job: Job, attempt: int = 1) -> RunConnection:
    return await plane.manager.attached(
        job.id, LinkNumber(attempt), world_size=job.workers, host="node1", total_steps=100
    )


def finish(plane: Plane, job_id: str, status: str = "succeeded", code: int = 0) -> None:
    """The run leaves its result and its processes end."""
    plane.launcher.runs[job_id].write_result(status)
    plane.launcher.runs[job_id].end(Exit(exit_code=code))


async def submitted(plane: Plane, **retry: Any) -> Job:
    job = await plane.manager.create(spec(retry=RETRY | retry), workers=1)
    await settle()
    return job


async def running(plane: Plane, workers: int = 1, **document: Any) -> Job:
    job = await plane.manager.create(spec(**document), workers=workers)
    await settle()
    await attach(plane, job)
    return await plane.manager.get(job.id)


def stop(plane: Plane, job: Job) -> None:
    """The run has written its checkpoint and ends."""
    plane.launcher.runs[job.id].write_result("stopped", "stop_requested")
    plane.launcher.runs[job.id].end(Exit(exit_code=75))


async def paused(plane: Plane, **request: Any) -> Job:
    job = await running(plane, **request)
    await plane.manager.lifecycle.pause(job.id)
    stop(plane, job)
    return await in_state(plane, job.id, State.PAUSED)
