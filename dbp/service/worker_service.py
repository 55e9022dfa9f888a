"""WorkerService: receives the reports of runs and sends them requests. Private to runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import TypeAlias, TypeVar, final

import grpc
from google.protobuf.message import Message

from dbp.access.places import UNIX
from dbp.access.principal import CALLER
from dbp.errors import InvalidInput
from dbp.job.snapshot import Manifest
from dbp.jobs.connections import RunConnection
from dbp.jobs.link_fence import LinkNumber
from dbp.jobs.manager import JobManager
from dbp.printable import printable_line
from dbp.rpc.attempt_secret import ATTEMPT_SECRET, mark_of
from dbp.rpc.job_convert import outcome_from_proto, progress_from_proto
from dbp.rpc.scalar_convert import id_from_name
from dbp.rpc.version_convert import manifest_from_proto, version_to_proto
from dbp.service.message_limit import job_answer
from dbp.service.spec_reading import document_of
from dbp.v1 import worker_service_pb2 as pb
from dbp.v1 import worker_service_pb2_grpc
from dbp.versions.file import Chunks
from dbp.versions.run_memory import opened

T = TypeVar("T")

Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"
Answers = asyncio.Queue[pb.AttachResponse | Exception | None]


@final
class WorkerService(worker_service_pb2_grpc.WorkerServiceServicer):
    """Receives reports from rank 0's link and sends requests to it."""

    def __init__(self, manager: JobManager) -> None:
        self._manager = manager

    async def RegisterRun(
        self, request: pb.RegisterRunRequest, context: Context
    ) -> pb.RegisterRunResponse:
        job, secret = await self._manager.register(
            await document_of(request.spec),
            workers=request.workers,
            request_id=request.request_id,
            host=printable_line(request.host),
            owner=CALLER.get().owner,
        )
        return pb.RegisterRunResponse(job=job_answer(job), secret=secret)

    async def Attach(
        self, request_iterator: AsyncIterator[pb.AttachRequest], context: Context
    ) -> AsyncIterator[pb.AttachResponse]:
        hello = (await _first(request_iterator)).hello
        job_id = id_from_name(hello.job)
        link = LinkNumber(hello.attempt, hello.link_generation)
        await self._manager.authorize(job_id, link, _secret(context))
        connection = await self._manager.attached(
            job_id,
            link,
            world_size=hello.world_size,
            host=printable_line(hello.host),
            total_steps=hello.total_steps,
        )
        answers: Answers = asyncio.Queue()
        tasks = [
            asyncio.create_task(self._hear(request_iterator, connection, answers)),
            asyncio.create_task(_ask(connection, answers)),
        ]
        try:
            while (answer := await answers.get()) is not None:
                if isinstance(answer, Exception):
                    raise answer
                yield answer
        finally:
            for task in tasks:
                task.cancel()
            # First, and without waiting: a cancel may end the wait for the tasks.
            self._manager.detached(connection)
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(
        self,
        reports: AsyncIterator[pb.AttachRequest],
        connection: RunConnection,
        answers: Answers,
    ) -> None:
        """Apply each report once, then acknowledge it: acknowledged reports are durable."""
        applied = connection.applied
        try:
            async for report in reports:
                self._manager.links.check(connection.job_id, connection.link)
                self._manager.silence.heard(connection.job_id)
                if report.sequence == 0 or report.sequence > applied.newest:
                    await self._apply(report, connection)
                if report.sequence:
                    applied.newest = max(report.sequence, applied.newest)
                    # One that was sent again comes late: those after it are applied, too.
                    answer = pb.AttachResponse(acknowledged=applied.newest)
                    acknowledge = partial(answers.put_nowait, answer)
                    if report.HasField("outcome"):  # durable, whatever waits before it
                        acknowledge()
                    else:
                        self._manager.history.when_stored(connection, acknowledge)
            await self._manager.history.hurry()  # acknowledges the last ones
            answers.put_nowait(None)
        except Exception as error:  # raised again by the stream's own task
            answers.put_nowait(error)

    async def _apply(self, report: pb.AttachRequest, connection: RunConnection) -> None:
        job_id, attempt = connection.job_id, connection.link.attempt
        match report.WhichOneof("report"):
            case "progress":
                progress = progress_from_proto(report.progress)
                await self._manager.reports.progress(job_id, attempt, progress, report.sequence)
            case "outcome":
                outcome = outcome_from_proto(report.outcome)
                await self._manager.reports.outcome(job_id, attempt, outcome)

    async def PublishParameters(
        self, request_iterator: AsyncIterator[pb.PublishParametersRequest], context: Context
    ) -> pb.PublishParametersResponse:
        header = (await _first(request_iterator)).header
        job_id = id_from_name(header.job)
        link = LinkNumber(header.attempt, header.link_generation)
        await self._manager.authorize(job_id, link, _secret(context))
        manifest = manifest_from_proto(header.manifest)
        memory = _memory_of(header, context)
        async with self._manager.links.call(job_id, link), self._manager.disk.upload(job_id):
            with _bytes(memory, manifest, request_iterator, _secret(context)) as chunks:
                version = await self._manager.publisher.publish(
                    job_id,
                    header.attempt,
                    step=header.step,
                    manifest=manifest,
                    chunks=chunks,
                    final=header.final,
                    best=header.best,
                )
        return pb.PublishParametersResponse(version=version_to_proto(version))


async def _first(messages: AsyncIterator[T]) -> T:
    """Return the first message, which names job and attempt."""
    async for message in messages:
        return message
    raise InvalidInput("the stream ended before its first message")


def _memory_of(header: pb.PublishHeader, context: Context) -> pb.RunMemory | None:
    """Return the memory that a header names; None: the bytes follow.

    Raises InvalidInput for a caller over TCP, whose memory may be on another machine.
    """
    if not header.HasField("memory"):
        return None
    if not context.peer().startswith(UNIX):
        raise InvalidInput("memory: is read for callers over the Unix socket; send the bytes")
    return header.memory


def _bytes(
    memory: pb.RunMemory | None,
    manifest: Manifest,
    messages: AsyncIterator[pb.PublishParametersRequest],
    secret: str,
) -> contextlib.AbstractContextManager[Chunks]:
    """Yield the data section: from the run's memory, or as it is sent."""
    if memory is None:
        return contextlib.nullcontext(_data(messages))
    return opened(
        memory.pid, memory.descriptor, memory.name, memory.offset, manifest.size_bytes,
        mark=mark_of(secret),
    )  # fmt: skip


async def _data(messages: AsyncIterator[pb.PublishParametersRequest]) -> AsyncIterator[bytes]:
    async for message in messages:
        yield message.data


async def _ask(connection: RunConnection, answers: Answers) -> None:
    """Send requests to the run until the connection ends."""
    async for request in connection:
        answers.put_nowait(pb.AttachResponse(stop=request.stop, publish=request.publish))
    answers.put_nowait(None)


def _secret(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == ATTEMPT_SECRET:
            return str(value)
    return ""
