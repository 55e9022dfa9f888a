"""Jobs with large data are acknowledged by their first rows, and checked while they wait."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from dbp.rpc.spec_convert import spec_to_proto
from dbp.service import check_pool, job_check
from dbp.v1 import job_pb2
from dbp.v1 import job_service_pb2 as pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub
from tests.deadline import DEADLINE
from tests.service.job_requests import Code
from tests.service.setups import document, refused, serving, until

pytestmark = pytest.mark.processes

CHECKING = job_pb2.JOB_CONDITION_KIND_CHECKING


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as large, of which the last row is bad."""
    monkeypatch.setattr(job_check, "CHEAP_BYTES", 2**20)
    monkeypatch.setattr(job_check, "WHOLE_BYTES", 2**20)
    path = tmp_path / "data" / "x.csv"
    path.parent.mkdir()
    path.write_text("0.5,1.25,0\n" * 500_000 + "b,1,1\n")
    return path


def reading(path: Path) -> dict[str, Any]:
    return {"data": {"train": {"kind": "csv", "path": str(path)}}}


async def test_a_bad_row_far_from_the_first_fails_the_job_before_it_starts(
    tmp_path: Path, data: Path
) -> None:
    async with serving(tmp_path / "state") as service:
        job = await service.create(**reading(data))
        job_id = job.name.removeprefix("jobs/")
        waits = await service.get(job_id)
        await service.ended(job_id)
        failed = await service.get(job_id)

        assert [condition.kind for condition in waits.conditions] == [CHECKING]
        assert waits.state == job_pb2.JOB_STATE_QUEUED
        assert failed.state == job_pb2.JOB_STATE_FAILED
        assert failed.failure.reason == job_pb2.FAILURE_REASON_INVALID_DATA
        assert "x.csv:500001" in failed.failure.message
        assert service.launcher.requests == []


async def test_a_bad_first_row_is_refused_at_once(tmp_path: Path, data: Path) -> None:
    data.write_text("0.5,1.25,0\n0.5,b,0\n" + "0.5,1.25,0\n" * 500_000)
    async with serving(tmp_path / "state") as service:
        with pytest.raises(grpc.aio.AioRpcError, match=r"x\.csv:2: column 1") as refused:
            await service.create(**reading(data))

        assert refused.value.code() is Code.INVALID_ARGUMENT


async def test_a_service_ends_at_once_while_data_are_checked_and_the_next_one_goes_on(
    tmp_path: Path, data: Path
) -> None:
    data.write_text("0.5,1.25,0\n" * 3_000_000 + "b,1,1\n")
    async with serving(tmp_path / "state") as service:
        job = await service.create(**reading(data))
        begin = time.monotonic()
    took = time.monotonic() - begin
    data.write_text("0.5,1.25,0\n" * 500_000 + "b,1,1\n")
    async with serving(tmp_path / "state") as service:
        job_id = job.name.removeprefix("jobs/")
        await service.ended(job_id)

        assert took < 5
        assert (await service.get(job_id)).state == job_pb2.JOB_STATE_FAILED
        assert service.launcher.requests == []


async def test_a_caller_whose_data_are_checked_is_answered_before_the_service_ends(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = ["sleep", str(DEADLINE)]
        pipe = subprocess.PIPE
        started.append(
            subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True)
        )
        return started[-1]

    monkeypatch.setattr(check_pool, "_start", start)
    request = pb.CreateJobRequest(spec=spec_to_proto(document(**reading(data))))
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(serving(tmp_path / "state"))
        async with grpc.aio.insecure_channel(service.socket) as channel:
            call = JobServiceStub(channel).CreateJob(request)
            waiting = asyncio.ensure_future(refused(call, Code.UNAVAILABLE))
            await until(lambda: started)
            await stack.aclose()

            assert "the service is shutting down" in await waiting
            assert started[0].returncode == -signal.SIGKILL


async def test_a_caller_who_leaves_ends_the_check_of_his_job(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_check, "WHOLE_BYTES", 2**40)
    data.write_text("0.5,1.25,0\n" * 6_000_000)
    request = pb.CreateJobRequest(spec=spec_to_proto(document(**reading(data))))
    async with serving(tmp_path / "state") as service:
        for _ in range(12):
            with pytest.raises(grpc.aio.AioRpcError):
                await service.jobs.CreateJob(request, timeout=0.3)
        begin = time.monotonic()
        await service.create()

        assert time.monotonic() - begin < 5
