"""Waiting for versions: what it costs the service."""

from __future__ import annotations

import pytest

from dbp.errors import JobNotFound
from dbp.job.state import Job, State
from dbp.jobs.live_parameters import LiveParameters
from dbp.jobs.watch import VersionChanges


class JobTable:
    """Knows one job, which has ended."""

    async def get(self, job_id: str) -> Job:
        if job_id != "ended":
            raise JobNotFound(job_id)
        return Job("ended", {}, "", 1, State.SUCCEEDED, 0.0)


async def test_waiting_for_a_version_that_never_comes_leaks_nothing() -> None:
    feed = VersionChanges()
    nothing: object = None
    parameters = LiveParameters(nothing, nothing, JobTable(), feed, nothing, nothing)  # type: ignore[arg-type]

    async def never() -> bool:
        return False

    await parameters.wait("ended", never, 60)
    with pytest.raises(JobNotFound):
        await parameters.wait("ghost", never, 60)

    assert not feed._waiting
