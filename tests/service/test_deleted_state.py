"""A service whose state folder was deleted answers every call with UNAVAILABLE."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dbp.errors import StateGone
from dbp.jobs.config import ManagerConfig
from dbp.rpc.channel import connect
from dbp.rpc.spec_convert import spec_to_proto
from dbp.service import server
from dbp.service.config import ServerConfig
from dbp.service.server import running
from dbp.v1 import job_service_pb2 as jobs_pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub
from tests.jobs.fakes import FakeLauncher, fake_check, until
from tests.service.setups import document, refused, serving

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
TEXT = "the state folder was deleted or replaced while the service ran"


@pytest.mark.parametrize("replaced", [False, True])
async def test_every_call_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    monkeypatch.setattr(server, "PRESENT_SECONDS", 3600.0)
    async with serving(tmp_path / "state") as service:
        job = await service.create()
        shutil.rmtree(tmp_path / "state")
        if replaced:
            (tmp_path / "state").mkdir(mode=0o700)
            (tmp_path / "state" / "lock").touch()
            (tmp_path / "state" / "service.json").touch()
            (tmp_path / "state" / "dbp.sqlite-wal").touch()
        for call in (
            service.jobs.GetJob(jobs_pb.GetJobRequest(name=job.name)),
            service.jobs.ListJobs(jobs_pb.ListJobsRequest()),
            service.jobs.CancelJob(jobs_pb.CancelJobRequest(name=job.name)),
            service.jobs.CreateJob(
                jobs_pb.CreateJobRequest(spec=spec_to_proto(document()), workers=1)
            ),
        ):
            assert TEXT in await refused(call, UNAVAILABLE)
        watch = service.jobs.WatchJobs(jobs_pb.WatchJobsRequest())
        assert TEXT in await refused(watch.read(), UNAVAILABLE)
        health = health_pb2_grpc.HealthStub(service.channel)
        assert TEXT in await refused(health.Check(health_pb2.HealthCheckRequest()), UNAVAILABLE)

        async with grpc.aio.insecure_channel(service.address) as stranger:
            text = await refused(
                JobServiceStub(stranger).ListJobs(jobs_pb.ListJobsRequest()), UNAUTHENTICATED
            )
            assert str(tmp_path) not in text

    left = {path.name for path in (tmp_path / "state").glob("*")}
    assert left == ({"lock", "service.json", "dbp.sqlite-wal"} if replaced else set())


async def test_the_service_is_notified_without_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PRESENT_SECONDS", 0.05)
    config = ServerConfig("127.0.0.1", 0, tmp_path / "s", ManagerConfig(), (tmp_path,))
    seen: list[StateGone] = []
    service = running(config, launcher=FakeLauncher(), check=fake_check, gone=seen.append)
    async with service as address, connect(address):
        assert not seen
        (tmp_path / "s").rename(tmp_path / "elsewhere")
        await until(lambda: seen)

    assert TEXT in str(seen[0])
    assert (tmp_path / "elsewhere" / "service.json").exists(), "it is not this service's path"
