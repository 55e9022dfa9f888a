"""Connect, finish and wait for the jobs of a control plane."""

from __future__ import annotations

from typing import Any

from dbp.job.state import Job, RunOutcome
from dbp.jobs.link_fence import LinkNumber
from dbp.launch.launcher import Exit
from tests.jobs.fakes import Plane, settle, until

SUCCEEDED = RunOutcome("succeeded", "epochs", 7)


async def ended(plane: Plane, job_id: str) -> Job:
    """The job when it has ended."""

    async def has_ended() -> bool:
        return (await plane.manager.get(job_id)).state.terminal

    await until(has_ended)
    await settle()
    return await plane.manager.get(job_id)


async def attach(plane: Plane, job: Job) -> Any:
    return await plane.manager.attached(
        job.id, LinkNumber(1), world_size=job.workers, host="node1", total_steps=100
    )


def finish(plane: Plane, job_id: str, status: str = "succeeded", code: int = 0) -> None:
    """The run leaves its result and its processes end."""
    plane.launcher.runs[job_id].write_result(status)
    plane.launcher.runs[job_id].end(Exit(exit_code=code))
