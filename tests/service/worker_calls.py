"""The calls of a link to WorkerService, made by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc

from dbp.rpc.scalar_convert import job_name
from dbp.rpc.version_convert import manifest_to_proto
from dbp.v1 import job_pb2
from dbp.v1 import worker_service_pb2 as pb
from tests.deadline import DEADLINE
from tests.service.setups import Service, as_manifest, refused, tensors, until

Code = grpc.StatusCode


async def launched(service: Service) -> tuple[str, str]:
    """Id and secret of a job whose run has not come yet."""
    job = await service.create()
    job_id = job.name.removeprefix("jobs/")
    await until(lambda: job_id in service.launcher.runs)
    (request,) = service.launcher.requests
    return job_id, request.secret


def metadata(secret: str | None) -> tuple[tuple[str, str], ...]:
    return () if secret is None else (("dbp-attempt-secret", secret),)


def hello(
    job_id: str, *, attempt: int = 1, world_size: int = 1, link: int = 1
) -> pb.AttachRequest:
    content = pb.AttachHello(
        job=job_name(job_id),
        attempt=attempt,
        world_size=world_size,
        host="node1",
        link_generation=link,
    )
    return pb.AttachRequest(hello=content)


def at_step(sequence: int, step: int) -> pb.AttachRequest:
    report = pb.AttachRequest(sequence=sequence)
    report.progress.step = step
    return report


async def attach(
    service: Service, secret: str | None, *reports: pb.AttachRequest
) -> list[pb.AttachResponse]:
    """The answers to a stream of these reports."""

    async def requests() -> AsyncIterator[pb.AttachRequest]:
        for report in reports:
            yield report

    call = service.worker.Attach(requests(), metadata=metadata(secret))
    async with asyncio.timeout(DEADLINE):
        return [answer async for answer in call]


def header(job_id: str, *, step: int = 1, attempt: int = 1, link: int = 1) -> pb.PublishHeader:
    manifest, _ = as_manifest(tensors(), {})
    return pb.PublishHeader(
        job=job_name(job_id),
        attempt=attempt,
        step=step,
        manifest=manifest_to_proto(manifest),
        link_generation=link,
    )


async def publish(
    service: Service, secret: str | None, first: pb.PublishHeader, parts: Sequence[bytes]
) -> job_pb2.ParameterVersion:
    async def requests() -> AsyncIterator[pb.PublishParametersRequest]:
        yield pb.PublishParametersRequest(header=first)
        for part in parts:
            yield pb.PublishParametersRequest(data=part)

    call = service.worker.PublishParameters(requests(), metadata=metadata(secret))
    answer: pb.PublishParametersResponse = await call
    return answer.version


async def refused_stream(call: Callable[[], Awaitable[Any]], code: grpc.StatusCode) -> str:
    """The text of a stream's refusal.

    gRPC for Python forgets it if it comes in the middle of a write; the link asks again then.
    """
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                if error.details() != "Internal error from Core":
                    return await refused(failing(error), code)


async def failing(error: Exception) -> None:
    raise error


DATA = as_manifest(tensors(), {})[1]


class OldLink:
    """A stream of the first link that stays open; its reports come one by one."""

    def __init__(self, service: Service, job_id: str, secret: str) -> None:
        self.reports: asyncio.Queue[pb.AttachRequest] = asyncio.Queue()
        self.reports.put_nowait(hello(job_id))
        self.answers: list[pb.AttachResponse] = []
        self._call = service.worker.Attach(self._requests(), metadata=metadata(secret))
        self.read = asyncio.create_task(self._read())

    async def _requests(self) -> AsyncIterator[pb.AttachRequest]:
        while True:
            yield await self.reports.get()

    async def _read(self) -> None:
        async for answer in self._call:
            self.answers.append(answer)

    async def report(self, sequence: int, step: int) -> None:
        """Report a step; returns when it is acknowledged."""
        self.reports.put_nowait(at_step(sequence, step))
        await until(lambda: any(a.acknowledged == sequence for a in self.answers))


async def open_stream(*reports: pb.AttachRequest) -> AsyncIterator[pb.AttachRequest]:
    for report in reports:
        yield report
    await asyncio.Event().wait()
