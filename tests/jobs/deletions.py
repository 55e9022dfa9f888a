"""Jobs to delete, and what is left of them."""

from __future__ import annotations

from typing import Any

from dbp.job.state import Job
from tests.jobs.fakes import Plane, data, manifest, settle, spec
from tests.jobs.runs import attach, ended, finish


async def trained(plane: Plane, name: str = "digits", **request: Any) -> Job:
    """A job that has ended, with two versions and some files."""
    job = await plane.manager.create(spec(name), workers=1, **request)
    await settle()
    await attach(plane, job)
    for step in (1, 2):
        await plane.manager.publisher.publish(
            job.id, 1, step=step, manifest=manifest(), chunks=data(), final=step == 2
        )
    checkpoint = plane.folder.job_folder(job.id) / "run" / "checkpoints" / "step-2"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.safetensors").write_bytes(bytes(1000))
    finish(plane, job.id)
    return await ended(plane, job.id)


async def everything(plane: Plane) -> list[str]:
    """Ids of all jobs that are listed."""
    return [job.id for job in (await plane.manager.list())[0]]


async def deleted_jobs(plane: Plane, count: int, prefix: str = "r") -> list[str]:
    """Ids of jobs that were deleted, in this order, with a request id each."""
    jobs = [await trained(plane, request_id=f"{prefix}{number}") for number in range(count)]
    for job in jobs:
        await plane.manager.lifecycle.delete(job.id, request_id=f"d-{job.id}")
    return [job.id for job in jobs]


async def known_jobs(plane: Plane) -> list[str]:
    rows = await plane.store._query("SELECT id FROM jobs ORDER BY number")
    return [job_id for (job_id,) in rows]
