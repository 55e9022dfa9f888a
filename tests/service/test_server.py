"""The service as a whole: where it listens, what it answers about itself, how it ends."""

from __future__ import annotations

import asyncio
import os
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dbp.errors import Conflict, InvalidInput, Unavailable
from dbp.jobs.config import ManagerConfig
from dbp.rpc.address import parse_address
from dbp.rpc.enums import event_kind_from_proto
from dbp.rpc.spec_convert import spec_to_proto
from dbp.service import listening
from dbp.service.config import ServerConfig
from dbp.service.server import running
from dbp.v1 import job_pb2, worker_service_pb2
from dbp.v1 import job_service_pb2 as jobs_pb
from dbp.v1 import parameter_service_pb2 as parameters_pb
from tests.jobs.fakes import FakeLauncher, fake_check
from tests.service.setups import (
    Run,
    Service,
    document,
    read_all,
    refused,
    selector,
    service_file,
    serving,
    tensors,
)

PUBLIC = ["dbp.v1.JobService", "dbp.v1.ParameterService", "inference.GRPCInferenceService"]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def config(state: Path, *, host: str = "127.0.0.1", port: int = 0) -> ServerConfig:
    return ServerConfig(host, port, state, ManagerConfig(), (state.parent,))


def launch(config: ServerConfig) -> Any:
    return running(config, check=fake_check, launcher=FakeLauncher())


# Health


@pytest.mark.parametrize("name", ["", *PUBLIC])
async def test_health_is_reported_for_each_service(service: Service, name: str) -> None:
    stub = health_pb2_grpc.HealthStub(service.channel)

    answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))

    assert answer.status == SERVING


async def test_a_health_watch_reports_the_shutdown(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = health_pb2_grpc.HealthStub(service.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=PUBLIC[0]))
    assert (await watch.read()).status == SERVING

    stopping = asyncio.create_task(service.stop())
    status = (await watch.read()).status
    watch.cancel()
    await stopping

    assert status == NOT_SERVING


async def test_runs_find_its_address_in_the_state_folder(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with serving(state) as service:
        entry = service_file(state)
        assert entry["address"] == service.address
        assert entry["pid"] == os.getpid()

    assert not (state / "service.json").exists()


# Where it listens


async def test_two_services_never_share_a_port(service: Service, tmp_path: Path) -> None:
    _, port = parse_address(service.address)
    other = tmp_path / "other"

    with pytest.raises(Conflict, match=rf"127\.0\.0\.1:{port}: .*in use; .*--port"):
        async with launch(config(other, port=port)):
            pass

    async with launch(config(other)) as address:
        assert address != service.address, "the refused one has let go of its folder"


async def test_a_port_that_grpc_cannot_open_is_refused_too(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, port = parse_address(service.address)
    monkeypatch.setattr(listening, "_try_port", lambda host, port: None)

    with pytest.raises(Conflict, match=f"{port}: cannot be opened"):
        async with launch(config(tmp_path / "other", port=port)):
            pass


async def test_two_services_never_share_a_state_folder(
    service: Service, tmp_path: Path
) -> None:
    with pytest.raises(Conflict, match="in use by another service"):
        async with launch(config(tmp_path / "state")):
            pass


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "example.com", "", "127.0.0.1.example.com"]
)
async def test_a_host_beyond_this_machine_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidInput, match=r"TLS and tokens; allowed: a loopback address"):
        async with launch(config(tmp_path / "state", host=host)):
            pass

    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2"])
async def test_names_of_this_machine_are_fine(tmp_path: Path, host: str) -> None:
    async with launch(config(tmp_path / "state", host=host)) as address:
        assert parse_address(address)[0] == host


async def test_a_state_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "open").mkdir(mode=0o755)

    for state, text in (
        (tmp_path / "file", "file: cannot be the state folder"),
        (tmp_path / "file" / "below", "cannot be the state folder"),
        (tmp_path / "open", "chmod 700"),
    ):
        with pytest.raises(InvalidInput, match=text):
            async with launch(config(state)):
                pass


async def test_a_proxy_in_the_environment_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("no_grpc_proxy", raising=False)

    async with serving(tmp_path / "state") as service:
        assert (await service.create()).name


# How it ends and comes again


async def test_a_restart_loses_no_job_no_version_and_no_event(tmp_path: Path) -> None:
    state, launcher, values = tmp_path / "state", FakeLauncher(), tensors()
    request = jobs_pb.CreateJobRequest(
        spec=spec_to_proto(document(name="second")), request_id=str(uuid.uuid4())
    )
    async with serving(state, launcher=launcher, slots=1) as service:
        run = await service.start()
        published = await run.publish(5, values)
        waiting = (await service.jobs.CreateJob(request)).job
        watch = service.watch(run.id)
        token = (await watch.read()).resume_token
        version = await run.publish(6, values)

    async with serving(state, launcher=launcher, slots=1) as service:
        (attempt,) = (r for r in launcher.requests if r.job_id == run.id)
        again = Run(service, run.id, attempt.secret)
        await again.attach()

        listed = (await service.jobs.ListJobs(jobs_pb.ListJobsRequest())).jobs
        assert [job.name for job in listed] == [waiting.name, f"jobs/{run.id}"]
        assert listed[0].state == job_pb2.JOB_STATE_QUEUED
        assert listed[1].latest_parameters == version
        assert (await service.jobs.CreateJob(request)).job.name == waiting.name
        answer = await service.parameters.GetParameters(
            parameters_pb.GetParametersRequest(selector=selector(run.id, version=1))
        )
        assert answer.digest == published.digest

        resumed = service.watch(run.id, token)
        await again.end()
        told = await read_all(resumed)
        changes = [
            event_kind_from_proto(m.change.kind)
            for m in told
            if m.WhichOneof("event") == "change"
        ]
        assert changes == ["parameters_published", "succeeded"]

    running_ = launcher.runs[run.id]
    assert (running_.stops, running_.kills) == (0, 0)


async def test_a_failed_start_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, *addresses: str) -> None:
        raise OSError("no space")

    monkeypatch.setattr("dbp.storage.state_folder.StateFolder.announce", broken)
    with pytest.raises(OSError, match="no space"):
        async with launch(config(tmp_path / "state")):
            pass
    monkeypatch.undo()

    async with launch(config(tmp_path / "state")):
        pass


async def test_a_service_that_leaves_takes_no_more_jobs(service: Service) -> None:
    await service.stop()

    request = jobs_pb.CreateJobRequest(spec=spec_to_proto(document()))
    with pytest.raises(Unavailable, match="connection refused"):
        await service.jobs.CreateJob(request)


# Who may name which files


async def test_a_run_launched_by_hand_may_read_what_it_likes(service: Service) -> None:
    reader = {"kind": "csv", "path": "/nowhere/on/this/machine.csv", "target": 0}
    spec = spec_to_proto(document(data={"train": reader}))

    answer = await service.worker.RegisterRun(
        worker_service_pb2.RegisterRunRequest(spec=spec, workers=2, host="node7")
    )

    assert answer.job.attached
    assert answer.job.host == "node7"
    await refused(
        service.jobs.CreateJob(jobs_pb.CreateJobRequest(spec=spec)),
        grpc.StatusCode.INVALID_ARGUMENT,
    )


async def test_a_run_launched_by_hand_must_have_a_valid_spec(service: Service) -> None:
    spec = spec_to_proto(document(train={"epochs": 0}))

    text = await refused(
        service.worker.RegisterRun(
            worker_service_pb2.RegisterRunRequest(spec=spec, workers=1, host="node7")
        ),
        grpc.StatusCode.INVALID_ARGUMENT,
    )

    assert "train.epochs" in text
