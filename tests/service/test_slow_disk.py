"""A disk on which every COMMIT takes long delays the changes, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from dbp.v1 import job_pb2
from dbp.v1 import job_service_pb2 as pb
from tests.service.setups import Service, serving, until
from tests.storage.slow_commits import SlowCommits

COMMIT_SECONDS = 1.0


async def longest(call: Callable[[], Awaitable[object]], changing: asyncio.Task[None]) -> float:
    """The longest of the calls that are made, one after the other, while something changes."""
    times = []
    while not changing.done():
        began = time.monotonic()
        await call()
        times.append(time.monotonic() - began)
    return max(times)


async def change(service: Service, slow: SlowCommits) -> None:
    """Create, start and cancel a job; each is a slow commit."""
    slow.seconds = COMMIT_SECONDS
    begun = slow.begun
    created = await service.create()
    await service.jobs.CancelJob(pb.CancelJobRequest(name=created.name, force=True))
    slow.seconds = 0.0
    assert slow.begun - begun >= 3


async def test_reads_and_heartbeats_are_answered_during_slow_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowCommits(monkeypatch)
    async with serving(tmp_path / "state", heartbeat_seconds=0.05) as service:
        run = await service.start()
        watch = service.watch(run.id)
        await watch.read()
        ended = await service.start()
        await ended.end()
        await service.ended(ended.id)
        changing = asyncio.create_task(change(service, slow))

        live, stored, listed, silent = await asyncio.gather(
            longest(lambda: service.get(run.id), changing),
            longest(lambda: service.get(ended.id), changing),
            longest(lambda: service.jobs.ListJobs(pb.ListJobsRequest()), changing),
            longest(watch.read, changing),
        )

        await changing
        for took in (live, stored, listed, silent):
            assert took < COMMIT_SECONDS / 2


async def test_a_change_is_shown_by_no_call_before_its_slow_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowCommits(monkeypatch)
    async with serving(tmp_path / "state") as service:
        run = await service.start()
        slow.seconds = COMMIT_SECONDS
        begun, began = slow.begun, time.monotonic()

        async def cancel() -> pb.CancelJobResponse:
            request = pb.CancelJobRequest(name=f"jobs/{run.id}")
            response: pb.CancelJobResponse = await service.jobs.CancelJob(request)
            return response

        cancelling = asyncio.create_task(cancel())
        await until(lambda: slow.begun > begun)

        shown = []
        while time.monotonic() < began + COMMIT_SECONDS / 2:
            listed = await service.jobs.ListJobs(pb.ListJobsRequest())
            shown += [(await service.get(run.id)).state, listed.jobs[0].state]

        assert set(shown) == {job_pb2.JOB_STATE_RUNNING}
        assert (await cancelling).job.state == job_pb2.JOB_STATE_CANCELLING
        assert (await service.get(run.id)).state == job_pb2.JOB_STATE_CANCELLING
        slow.seconds = 0.0
