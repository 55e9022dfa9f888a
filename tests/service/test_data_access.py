"""Data files that a job may name, by the listener that its submitter called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from dbp.launch.launcher import LaunchRequest
from dbp.rpc.channel import CLIENT_OPTIONS
from dbp.rpc.spec_convert import spec_to_proto
from dbp.v1 import job_service_pb2 as pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub
from tests.credentials import open_channel
from tests.jobs.fakes import until
from tests.service.job_requests import Code
from tests.service.setups import Service, document, refused, serving, tensors


def create(**changes: Any) -> pb.CreateJobRequest:
    return pb.CreateJobRequest(spec=spec_to_proto(document(**changes)), workers=1)


def of_table(path: Path) -> pb.CreateJobRequest:
    reader = {"kind": "csv", "path": str(path), "target": "y"}
    return create(
        data={"train": reader},
        model={"layers": [{"kind": "dense", "units": 2}], "loss": "softmax_cross_entropy"},
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n" + "5,3,0\n7,2,1\n" * 200)
    return path


async def test_without_roots_the_socket_reads_every_file_and_tcp_none(
    tmp_path: Path, table: Path
) -> None:
    async with serving(tmp_path / "state", data_roots=None) as service:
        async with open_channel(service.address) as channel:
            by_tcp = JobServiceStub(channel)
            text = await refused(by_tcp.CreateJob(of_table(table)), Code.INVALID_ARGUMENT)
            assert "a folder that the service may read (none is set)" in text
            other = (await by_tcp.CreateJob(create())).job
        async with grpc.aio.insecure_channel(service.socket, options=CLIENT_OPTIONS) as channel:
            own = (await JobServiceStub(channel).CreateJob(of_table(table))).job
        confined = {r.job_id: r.confined for r in await launched(service, 2)}
        assert confined == {own.name[5:]: False, other.name[5:]: True}


@pytest.mark.parametrize("roots", [True, False])
async def test_no_job_reads_the_state_folder_of_its_service(
    tmp_path: Path, roots: bool
) -> None:
    async with (
        serving(tmp_path / "state", data_roots=(tmp_path,) if roots else None) as service,
        grpc.aio.insecure_channel(service.socket, options=CLIENT_OPTIONS) as channel,
    ):
        run = await service.start()
        await run.publish(1, tensors())
        jobs = tmp_path / "state" / "jobs"
        file = jobs / run.id / "parameters" / "1.safetensors"
        assert file.is_file()
        start = create(train={"epochs": 1, "initial_parameters": str(file)})
        others = [jobs.parent / "dbp.sqlite", *([jobs / "none"] if roots else [])]
        for request in (start, *map(of_table, others)):
            call = JobServiceStub(channel).CreateJob(request)
            text = await refused(call, Code.INVALID_ARGUMENT)
            assert "lies in the state folder of a dbp service" in text, text


async def launched(service: Service, count: int) -> list[LaunchRequest]:
    await until(lambda: len(service.launcher.requests) == count)
    return service.launcher.requests


async def test_with_roots_both_read_files_below_them_alone(tmp_path: Path, table: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}.csv"
    outside.write_text(table.read_text())
    async with serving(tmp_path / "state") as service:
        async with open_channel(service.address) as channel:
            for jobs in (service.jobs, JobServiceStub(channel)):
                await jobs.CreateJob(of_table(table))
                await refused(jobs.CreateJob(of_table(outside)), Code.INVALID_ARGUMENT)
        for request in await launched(service, 2):
            assert request.confined
            assert len(request.data_digest) == 64
    outside.unlink()


@pytest.mark.parametrize("path", ["/proc/1/root/etc/passwd", "/proc/self/mem", "/dev/zero"])
async def test_paths_of_the_system_are_invalid(tmp_path: Path, path: str) -> None:
    for roots in (None, (tmp_path,)):
        async with (
            serving(tmp_path / "state", data_roots=roots) as service,
            open_channel(service.address) as channel,
        ):
            for jobs in (service.jobs, JobServiceStub(channel)):
                await refused(jobs.CreateJob(of_table(Path(path))), Code.INVALID_ARGUMENT)


@pytest.mark.processes
async def test_no_answer_and_no_log_holds_a_line_of_a_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".netrc").write_text("machine example.org login ann password hunter2\n" * 3)
    changes: list[dict[str, Any]] = [
        {"data": {"train": {"kind": kind, "path": str(tmp_path / ".netrc"), **options}}}
        for kind, options in (
            ("csv", {}), ("csv", {"delimiter": " "}), ("tsv", {}), ("npz", {}), ("hdf5", {}),
            ("csv", {"target": "y"}), ("csv", {"header": "no", "delimiter": " "}),
            ("parquet", {"target": "y"}), ("safetensors", {}),
        )
    ]  # fmt: skip
    changes.append({"train": {"epochs": 1, "initial_parameters": str(tmp_path / ".netrc")}})
    caplog.set_level("INFO")
    async with (
        serving(tmp_path / "state", data_roots=None) as service,
        grpc.aio.insecure_channel(service.socket, options=CLIENT_OPTIONS) as channel,
    ):
        for change in changes:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await JobServiceStub(channel).CreateJob(create(**change))
            assert caught.value.code() is Code.INVALID_ARGUMENT
            trailers = str(caught.value.trailing_metadata())
            for text in (caught.value.details() or "", trailers, caplog.text):
                for secret in ("hunter2", "example.org", "machine"):
                    assert secret not in text, change
