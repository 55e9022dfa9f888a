"""Changes that meet while a commit is under way."""

from __future__ import annotations

from dbp.job.state import Job, ProgressReport
from tests.jobs.fakes import Plane, spec, until
from tests.jobs.runs import attach
from tests.storage.slow_commits import SlowCommits


async def commit_begins(slow: SlowCommits, count: int = 1) -> None:
    """Return when ``count`` more commits have begun."""
    wanted = slow.begun + count
    await until(lambda: slow.begun >= wanted)


async def running(plane: Plane) -> Job:
    job = await plane.manager.create(spec(), workers=1)
    await attach(plane, job)
    return job


def report(step: int) -> ProgressReport:
    return ProgressReport(step, 100, 1, 0.5, {}, 1.0, None, 0.0)
