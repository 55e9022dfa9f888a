"""A real server on a free port, over a launcher that starts nothing, and the far ends of runs.

Runs speak to it as rank 0's link does: through WorkerService, with their secret.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from dbp.job.snapshot import Manifest, manifest_of
from dbp.jobs.checks import Check
from dbp.jobs.config import ManagerConfig
from dbp.launch.launcher import Exit
from dbp.rpc.channel import connect
from dbp.rpc.scalar_convert import job_name
from dbp.rpc.spec_convert import spec_to_proto
from dbp.rpc.status import DETAILS_KEY
from dbp.rpc.version_convert import manifest_to_proto
from dbp.service.config import ServerConfig
from dbp.service.job_check import job_check, run_check
from dbp.service.server import running
from dbp.v1 import job_pb2, worker_service_pb2
from dbp.v1 import job_service_pb2 as jobs_pb
from dbp.v1 import parameter_service_pb2 as parameters_pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub
from dbp.v1.parameter_service_pb2_grpc import ParameterServiceStub
from dbp.v1.worker_service_pb2_grpc import WorkerServiceStub
from tests.deadline import DEADLINE
from tests.jobs.fakes import FakeLauncher


def document(**changes: Any) -> dict[str, Any]:
    """A small valid spec, of a job that fails with its first attempt."""
    return {
        "name": "digits",
        "data": {"train": {"kind": "digits"}},
        "model": {
            "layers": [{"kind": "dense", "units": 10}],
            "loss": {"kind": "softmax_cross_entropy"},
        },
        "optimizer": {"kind": "sgd", "learning_rate": 0.1},
        "train": {"epochs": 1},
        "retry": {"attempts": 0},
    } | changes


class Run:
    """The far end of one attempt."""

    def __init__(self, service: Service, job_id: str, secret: str) -> None:
        self.id = job_id
        self.asked: list[worker_service_pb2.AttachResponse] = []
        self._service = service
        self.credentials = (("dbp-attempt-secret", secret),)
        self._reports: asyncio.Queue[worker_service_pb2.AttachRequest] = asyncio.Queue()
        self._acknowledged = 0
        self._sequence = 0
        self._reader: asyncio.Task[None] | None = None

    async def attach(self, **hello: Any) -> None:
        """Say hello: the job is running when this returns."""
        first = worker_service_pb2.AttachRequest()
        first.hello.job, first.hello.attempt = job_name(self.id), 1
        first.hello.world_size, first.hello.host = hello.get("world_size", 1), "node1"
        self._reports.put_nowait(first)
        self._reader = asyncio.create_task(self._read())
        self._service.runs.append(self)
        await self.progress(1)

    async def progress(self, *steps: int, metric: str = "training_loss") -> None:
        """Report steps; returns when the last one is acknowledged."""
        for step in steps:
            self._sequence += 1
            report = worker_service_pb2.AttachRequest(sequence=self._sequence)
            report.progress.step, report.progress.total_steps = step, 100
            report.progress.metrics[metric] = 1 / step
            self._reports.put_nowait(report)
        await until(lambda: self._acknowledged >= self._sequence)

    def send(self, report: worker_service_pb2.AttachRequest) -> None:
        """Send one report, without waiting for an acknowledgement."""
        self._reports.put_nowait(report)

    async def publish(
        self,
        step: int,
        tensors: Mapping[str, np.ndarray],
        *,
        final: bool = False,
        best: bool = False,
    ) -> job_pb2.ParameterVersion:
        """Publish tensors of one dtype."""
        manifest, data = as_manifest(tensors, {"dbp.step": str(step)})
        header = worker_service_pb2.PublishHeader(
            job=job_name(self.id),
            attempt=1,
            step=step,
            manifest=manifest_to_proto(manifest),
            final=final,
            best=best,
        )

        async def parts() -> AsyncIterator[worker_service_pb2.PublishParametersRequest]:
            yield worker_service_pb2.PublishParametersRequest(header=header)
            for start in range(0, len(data), 1 << 20):
                part = data[start : start + (1 << 20)]
                yield worker_service_pb2.PublishParametersRequest(data=part)

        call = self._service.worker.PublishParameters(parts(), metadata=self.credentials)
        answer: worker_service_pb2.PublishParametersResponse = await call
        return answer.version

    async def end(self, status: str = "succeeded", code: int = 0) -> None:
        """Leave a result and end; returns when the service has noticed."""
        running = self._service.launcher.runs[self.id]
        running.write_result(status)
        running.end(Exit(exit_code=code))
        await self._service.ended(self.id)

    def write_log(self, text: str, name: str = "log.txt") -> None:
        """Append to a log of the attempt."""
        folder = self._service.launcher.runs[self.id].folder
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("a") as file:
            file.write(text)

    async def leave(self) -> None:
        """Close the stream of reports."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        async def requests() -> AsyncIterator[worker_service_pb2.AttachRequest]:
            while True:
                yield await self._reports.get()

        call = self._service.worker.Attach(requests(), metadata=self.credentials)
        async for answer in call:
            self._acknowledged = max(self._acknowledged, answer.acknowledged)
            if answer.stop or answer.publish:
                self.asked.append(answer)


class Service:
    """A client's view of the server, and the launcher behind it."""

    def __init__(
        self,
        address: str,
        channel: grpc.aio.Channel,
        launcher: FakeLauncher,
        *,
        socket: str,
        stop: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """``stop`` ends the service as a signal would; the channel stays.

        ``socket``: the address at which tools that cannot send a token are served.
        """
        self.address = address
        self.socket = socket
        self.stop = stop
        self.channel = channel
        self.launcher = launcher
        self.jobs = JobServiceStub(channel)
        self.parameters = ParameterServiceStub(channel)
        self.worker = WorkerServiceStub(channel)
        self.runs: list[Run] = []

    async def create(self, workers: int = 1, **changes: Any) -> job_pb2.Job:
        """A job of the small spec."""
        request = jobs_pb.CreateJobRequest(
            spec=spec_to_proto(document(**changes)), workers=workers
        )
        job: job_pb2.Job = (await self.jobs.CreateJob(request)).job
        return job

    async def start(self, workers: int = 1, **changes: Any) -> Run:
        """A job that runs, seen from its rank 0."""
        job = await self.create(workers, **changes)
        job_id = job.name.removeprefix("jobs/")
        await until(lambda: job_id in self.launcher.runs)
        run = self.run_of(job_id)
        await run.attach(world_size=workers)
        return run

    def run_of(self, job_id: str) -> Run:
        """The far end of a launched job that has not come yet."""
        (request,) = (r for r in self.launcher.requests if r.job_id == job_id)
        return Run(self, job_id, request.secret)

    async def get(self, job_id: str) -> job_pb2.Job:
        """The job as it stands."""
        request = jobs_pb.GetJobRequest(name=job_name(job_id))
        job: job_pb2.Job = (await self.jobs.GetJob(request)).job
        return job

    async def ended(self, job_id: str) -> job_pb2.Job:
        """The job when it has ended."""
        async with asyncio.timeout(DEADLINE):
            while (job := await self.get(job_id)).state < job_pb2.JOB_STATE_SUCCEEDED:
                await asyncio.sleep(0.01)
        return job

    def watch(self, job_id: str = "", token: str = "") -> Any:
        """An open watch."""
        name = job_name(job_id) if job_id else ""
        return self.jobs.WatchJobs(jobs_pb.WatchJobsRequest(name=name, resume_token=token))


@asynccontextmanager
async def serving(
    state: Path,
    *,
    launcher: FakeLauncher | None = None,
    check: Check | None = None,
    port: int = 0,
    slots: int = 4,
    data_roots: tuple[Path, ...] | None = (),
    **config: Any,
) -> AsyncIterator[Service]:
    """One life of a service on a state folder; ``data_roots``: (): the folder around it."""
    launcher = launcher or FakeLauncher()
    launcher.capacity = slots
    server = ServerConfig(
        host="127.0.0.1",
        port=port,
        state=state,
        manager=ManagerConfig(**config),
        data_roots=(state.parent,) if data_roots == () else data_roots,
    )
    check = check or job_check(server.data_roots, launcher)
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(
            running(server, check=check, check_run=run_check, launcher=launcher)
        )
        async with connect(address) as channel:
            socket = str(service_file(state)["socket"])
            service = Service(address, channel, launcher, socket=socket, stop=stack.aclose)
            try:
                yield service
            finally:
                for run in service.runs:
                    await run.leave()
                await stack.aclose()


def tensors(values: int = 6, seed: int = 0) -> dict[str, np.ndarray]:
    """A weight of (2, values) and a bias of (2,)."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((2, values), np.float32)
    return {"0.weight": weight, "0.bias": rng.standard_normal(2, np.float32)}


def as_manifest(
    arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> tuple[Manifest, bytes]:
    """Manifest and data section of float32 arrays."""
    shapes = {name: array.shape for name, array in arrays.items()}
    data = b"".join(array.astype("<f4").tobytes() for array in arrays.values())
    return manifest_of(shapes, "F32", metadata), data


async def refused(call: Awaitable[Any], code: grpc.StatusCode) -> str:
    """The text of a call's error, which must have this code and say that it is dbp's."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code, f"{caught.value.code()}: {caught.value.details()}"
    info = details(caught.value, error_details_pb2.ErrorInfo())
    assert info.domain == "dbp"
    assert info.reason
    return caught.value.details() or ""


async def read_all(stream: Any) -> list[Any]:
    """Every message that a stream still has; it must end."""
    messages = []
    async with asyncio.timeout(DEADLINE):
        while (message := await stream.read()) is not grpc.aio.EOF:
            messages.append(message)
    return messages


def details(error: grpc.aio.AioRpcError, wanted: Any) -> Any:
    """The detail of the wanted type that an error carries."""
    (value,) = (value for key, value in error.trailing_metadata() if key == DETAILS_KEY)
    found = [
        any_ for any_ in status_pb2.Status.FromString(value).details if any_.Unpack(wanted)
    ]
    assert len(found) == 1
    return wanted


async def until(condition: Callable[[], Any]) -> None:
    """Wait for something that comes about."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


def selector(job_id: str, *patterns: str, version: int = 0) -> parameters_pb.ParameterSelector:
    """Which parameters of a job."""
    return parameters_pb.ParameterSelector(
        job=job_name(job_id), version=version, tensors=patterns
    )


def service_file(state: Path) -> dict[str, Any]:
    """Where the service says that it listens."""
    content: dict[str, Any] = json.loads((state / "service.json").read_text())
    return content
