"""A link in this process, between a scripted service and the test, which is rank 0."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from dbp.job.snapshot import manifest_of
from dbp.job.state import RunOutcome
from dbp.link.messages import (
    TO_RANK,
    FilledSlot,
    LaunchedRun,
    NumberedOutcome,
    ToLink,
    ToRank,
    TrainingStarted,
    decode,
    encode,
)
from dbp.link.session import Link
from dbp.rpc.attempt_secret import mark_of
from dbp.v1 import worker_service_pb2 as pb
from dbp.v1.worker_service_pb2_grpc import (
    WorkerServiceServicer,
    add_WorkerServiceServicer_to_server,
)
from dbp.versions.run_memory import opened
from tests.deadline import DEADLINE

STARTED = TrainingStarted(world_size=1, total_steps=9)


OUTCOME = NumberedOutcome(1, RunOutcome("succeeded", "steps", 9))


DATA = bytes(range(8))
SECRET = "s"


INTERNAL = grpc.StatusCode.INTERNAL


class Scripted(WorkerServiceServicer):
    """Answers as configured; records the requests, in order."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.generations: set[int] = set()
        self.data = b""
        self.ask: pb.AttachResponse | None = None
        self.cut_streams = 0
        self.refuse_attach: list[grpc.StatusCode] = []
        self.publish_codes: list[grpc.StatusCode] = []
        self.publish_details: tuple[tuple[str, bytes], ...] = ()
        self.sees_memory = False
        self.blind = 0  # how often it was asked to look into memory that it does not see

    async def Attach(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.AttachRequest], context: Any
    ) -> AsyncIterator[pb.AttachResponse]:
        if self.refuse_attach:
            await anext(request_iterator)
            await context.abort(self.refuse_attach.pop(0), "the secret is wrong")
        async for request in request_iterator:
            kind = request.WhichOneof("report")
            self.received.append(f"{kind} {request.sequence}")
            if kind == "hello":
                self.generations.add(request.hello.link_generation)
            if kind == "hello" and self.ask is not None:
                yield self.ask
            if kind != "hello" and self.cut_streams:
                self.cut_streams -= 1
                return  # received, but never acknowledged
            if request.sequence:
                yield pb.AttachResponse(acknowledged=request.sequence)

    async def PublishParameters(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.PublishParametersRequest], context: Any
    ) -> pb.PublishParametersResponse:
        parts = [part async for part in request_iterator]
        header = parts[0].header
        self.generations.add(header.link_generation)
        if header.HasField("memory") and not self.sees_memory:
            self.blind += 1
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "I cannot see it")
        self.received.append(f"publish {header.step}")
        if self.publish_codes:
            await context.abort(self.publish_codes.pop(0), "not now", self.publish_details)
        self.data = b"".join(part.data for part in parts[1:])
        if header.HasField("memory"):
            memory = header.memory
            with opened(
                memory.pid,
                memory.descriptor,
                memory.name,
                memory.offset,
                len(DATA),
                mark=mark_of(SECRET),
            ) as held:
                self.data = os.pread(held.descriptor, len(DATA), held.offset)
        return pb.PublishParametersResponse()


class Far:
    """Rank 0's end of the pipe."""

    def __init__(self, link: Link) -> None:
        self._lines = asyncio.StreamReader()
        self.ended = asyncio.create_task(link.run(self._lines))

    def write(self, line: bytes) -> None:
        self._lines.feed_data(line)

    def send(self, *messages: ToLink) -> None:
        for message in messages:
            self.write(encode(message))

    async def close(self) -> int:
        """The link's exit code after the pipe is closed."""
        self._lines.feed_eof()
        async with asyncio.timeout(DEADLINE):
            return await self.ended


@asynccontextmanager
async def linked(
    service: Scripted, *, away: bool = False, generation: int = 1
) -> AsyncIterator[Far]:
    """A link and the service, or, if it is ``away``, no file with the address of one."""
    server = grpc.aio.server()
    add_WorkerServiceServicer_to_server(service, server)
    folder = tempfile.TemporaryDirectory()  # private, as the socket in it must be
    address = f"unix:{folder.name}/s.sock"
    before = os.umask(0o077)
    server.add_insecure_port(address)
    os.umask(before)
    await server.start()
    memory = os.memfd_create("slots")
    os.write(memory, bytes(len(DATA)) + DATA)  # the second slot holds the parameters
    service_file = Path(folder.name) / "service.json"
    if not away:
        service_file.write_text(json.dumps({"address": address}))
    config = LaunchedRun(
        str(service_file),
        "digits-1",
        attempt=1,
        workers=1,
        secret=SECRET,
        speaks_of_flags=True,
        generation=generation,
    )
    try:
        yield Far(Link(config, memory))
    finally:
        os.close(memory)
        await server.stop(None)
        folder.cleanup()


def filled(step: int, *, final: bool = False, best: bool = False) -> FilledSlot:
    return FilledSlot(1, step, manifest_of({"0.bias": (2,)}, "F32", {}), final, best)


def sent_to_rank(capsys: pytest.CaptureFixture[str]) -> list[ToRank]:
    lines = capsys.readouterr().out.splitlines()
    return [decode(line.encode(), TO_RANK) for line in lines]
