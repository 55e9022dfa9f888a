"""The link's decisions, with a scripted service: what it keeps, repeats, and gives up."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import sys
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
    Alive,
    AttemptOver,
    FilledSlot,
    FreedSlot,
    LaunchedRun,
    NumberedOutcome,
    Probe,
    RunRequest,
    StoredReports,
    ToLink,
    ToRank,
    TrainingStarted,
    decode,
    encode,
)
from dbp.link.session import Link
from dbp.rpc.status import internal_details
from dbp.v1 import worker_service_pb2 as pb
from dbp.v1.worker_service_pb2_grpc import (
    WorkerServiceServicer,
    add_WorkerServiceServicer_to_server,
)
from dbp.versions.run_memory import opened
from tests.deadline import DEADLINE
from tests.service.setups import until

STARTED = TrainingStarted(world_size=1, total_steps=9)
OUTCOME = NumberedOutcome(1, RunOutcome("succeeded", "steps", 9))
DATA = bytes(range(8))
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
                memory.pid, memory.descriptor, memory.name, memory.offset, len(DATA)
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
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    memory = os.memfd_create("slots")
    os.write(memory, bytes(len(DATA)) + DATA)  # the second slot holds the parameters
    folder = tempfile.TemporaryDirectory()
    service_file = Path(folder.name) / "service.json"
    if not away:
        service_file.write_text(json.dumps({"address": f"127.0.0.1:{port}"}))
    config = LaunchedRun(
        str(service_file),
        "digits-1",
        attempt=1,
        workers=1,
        secret="s",
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


@pytest.mark.parametrize("sees_memory", [False, True])
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
async def test_parameters_are_published_before_the_outcome_is_sent(
    capsys: pytest.CaptureFixture[str], code: grpc.StatusCode, sees_memory: bool
) -> None:
    service = Scripted()
    service.sees_memory = sees_memory
    service.publish_codes = [code]  # INTERNAL without details: how gRPC reports a cut stream
    async with linked(service) as far:
        far.send(STARTED, filled(9), OUTCOME)

        assert await far.close() == 0

    assert service.received[-2:] == ["publish 9", "outcome 1"]
    assert service.received.count("publish 9") == 2  # once while the service was away
    assert service.data == DATA
    assert sent_to_rank(capsys) == [FreedSlot(1), StoredReports(1)]


async def test_a_service_that_cannot_see_the_memory_is_sent_the_bytes_and_not_asked_again() -> (
    None
):
    service = Scripted()
    async with linked(service) as far:
        far.send(STARTED, filled(3), filled(6), OUTCOME)

        assert await far.close() == 0

    assert service.blind == 1
    assert service.data == DATA
    assert [received for received in service.received if "publish" in received] == [
        "publish 3", "publish 6",
    ]  # fmt: skip


async def test_unacknowledged_reports_are_sent_again_with_their_numbers() -> None:
    service = Scripted()
    service.cut_streams = 2
    async with linked(service) as far:
        far.send(STARTED, OUTCOME)

        assert await far.close() == 0

    assert service.received == ["hello 0", "outcome 1"] * 3


async def test_requests_are_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    service = Scripted()
    service.ask = pb.AttachResponse(publish=True)
    async with linked(service) as far:
        far.send(STARTED, OUTCOME)

        assert await far.close() == 0

    assert sent_to_rank(capsys) == [RunRequest(stop=False, publish=True), StoredReports(1)]


async def test_an_attempt_that_is_over_is_reported_in_its_log_and_not_tried_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = Scripted()
    service.refuse_attach = [grpc.StatusCode.FAILED_PRECONDITION] * 1_000
    async with linked(service) as far:
        far.send(STARTED, OUTCOME)

        assert await far.close() == 0

    assert service.received == []
    captured = capsys.readouterr()
    assert decode(captured.out.encode(), TO_RANK) == AttemptOver()
    errors = captured.err
    assert errors == "dbp link: the service refused the run's reports: the secret is wrong\n"


async def test_a_service_that_knows_no_such_run_is_named_once_and_asked_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.link.session.LAST_RETRY_SECONDS", 0.05)
    service = Scripted()  # another one, at the address of the run's own
    service.refuse_attach = [grpc.StatusCode.UNAUTHENTICATED] * 1_000
    errors = ""
    async with linked(service) as far:
        far.send(STARTED, OUTCOME)
        async with asyncio.timeout(DEADLINE):
            while "refused" not in errors or len(service.refuse_attach) > 990:
                await asyncio.sleep(0.01)
                errors += capsys.readouterr().err
        service.refuse_attach.clear()

        assert await far.close() == 0

    assert service.received == ["hello 0", "outcome 1"]
    errors += capsys.readouterr().err
    assert errors == "dbp link: the service refused the run's reports: the secret is wrong\n"


async def test_a_service_whose_disk_is_full_is_asked_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = Scripted()
    service.refuse_attach = [grpc.StatusCode.RESOURCE_EXHAUSTED] * 3
    async with linked(service) as far:
        far.send(STARTED, OUTCOME)

        assert await far.close() == 0

    assert service.received == ["hello 0", "outcome 1"]
    assert capsys.readouterr().err == ""


async def test_link_of_a_rank_that_has_ended_gives_up_after_a_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.link.session.LINGER_SECONDS", 0.3)
    service = Scripted()
    service.publish_codes = [grpc.StatusCode.UNAVAILABLE] * 1_000
    async with linked(service) as far:
        far.send(STARTED, filled(9), OUTCOME)

        assert await far.close() == 1

    assert "outcome 1" not in service.received
    assert capsys.readouterr().err.endswith("giving up\n")


async def test_the_end_is_reported_though_rank_0_has_stopped_reading_the_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    service = Scripted()
    async with linked(service) as far:
        monkeypatch.setattr(sys, "stdout", Broken())
        far.send(STARTED, filled(9), OUTCOME)

        assert await far.close() == 0

    assert service.received[-2:] == ["publish 9", "outcome 1"]


@pytest.mark.parametrize(
    ("code", "special", "times"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "", 2),
        (grpc.StatusCode.INTERNAL, "", 1),
        (grpc.StatusCode.INTERNAL, "final", 2),
        (grpc.StatusCode.INTERNAL, "best", 2),
        (grpc.StatusCode.FAILED_PRECONDITION, "final", 1),
    ],
)
async def test_version_is_sent_again_after_an_error_that_may_pass(
    code: grpc.StatusCode, special: str, times: int
) -> None:
    service = Scripted()
    service.publish_codes = [code]
    service.publish_details = internal_details("not now", "1") if code is INTERNAL else ()
    async with linked(service) as far:
        version = filled(3, final=special == "final", best=special == "best")
        far.send(STARTED, version, OUTCOME)

        assert await far.close() == 0

    assert service.received.count("publish 3") == times


async def test_parameters_that_are_refused_free_their_slot(
    capsys: pytest.CaptureFixture[str],
) -> None:
    service = Scripted()
    service.publish_codes = [grpc.StatusCode.INVALID_ARGUMENT]
    async with linked(service) as far:
        far.send(STARTED, filled(3), OUTCOME)

        assert await far.close() == 0

    captured = capsys.readouterr()
    assert service.received.count("publish 3") == 1
    lines = captured.out.encode().splitlines()
    assert [decode(line, TO_RANK) for line in lines] == [FreedSlot(1), StoredReports(1)]
    assert captured.err == "dbp link: step 3 was not published: not now\n"


async def test_version_that_the_service_cannot_store_does_not_block_the_next(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.link.upload.MAX_FAILURES", 2)
    service = Scripted()
    service.publish_codes = [INTERNAL] * 3
    service.publish_details = internal_details("not now", "1")
    async with linked(service) as far:
        far.send(STARTED, filled(3, best=True), filled(6), OUTCOME)

        assert await far.close() == 0

    assert service.received.count("publish 3") == 3
    assert service.received[-2:] == ["publish 6", "outcome 1"]
    assert "step 3 was not published" in capsys.readouterr().err


async def test_a_rank_that_dies_silently_ends_its_link() -> None:
    service = Scripted()
    async with linked(service) as far:
        far.send(STARTED)
        await until(lambda: service.received)

        assert await far.close() == 1

    assert service.received == ["hello 0"]


async def test_an_ending_before_the_first_step_is_reported_too() -> None:
    service = Scripted()
    async with linked(service) as far:
        far.send(OUTCOME)

        assert await far.close() == 0

    assert service.received == ["hello 0", "outcome 1"]


@pytest.mark.parametrize(
    "line",
    [b"no JSON\n", b'{"Snapshot": {}}\n', b'{"TrainingStarted": {"world_size": "1"}}\n'],
)
async def test_a_line_that_is_no_message_ends_the_link_with_an_error(line: bytes) -> None:
    async with linked(Scripted()) as far:
        far.write(line)

        with pytest.raises(ValueError, match=r"Expecting value|no such message|of type int"):
            await far.close()


async def test_a_second_configuration_is_an_error() -> None:
    async with linked(Scripted()) as far:
        far.send(LaunchedRun("service.json", "digits-2", 1, 1, "s", speaks_of_flags=False))

        with pytest.raises(ValueError, match="LaunchedRun: the link is configured"):
            await far.close()


def broken(*_: object, **__: object) -> Any:
    """A programming error, in place of a function of the link."""
    raise RuntimeError("a programming error")


async def broken_stream(*_: object) -> AsyncIterator[Any]:
    nothing: tuple[Any, ...] = ()
    for each in nothing:
        yield each
    raise RuntimeError("a programming error")


@pytest.mark.parametrize(
    ("place", "double"),
    [
        ("session.decode", broken),  # reads rank 0's messages
        ("session.Link._attach", broken),
        ("session.Link._reports", broken_stream),  # gRPC drops what these two raise
        ("upload.Publisher._parts", broken_stream),
        ("outbox.Outbox.acknowledge", broken),
        ("upload.Publisher.publish", broken),
    ],
)
async def test_an_unforeseen_error_in_any_task_ends_the_link(
    monkeypatch: pytest.MonkeyPatch, place: str, double: Any
) -> None:
    service = Scripted()
    async with linked(service) as far:
        monkeypatch.setattr(f"dbp.link.{place}", double)
        far.send(STARTED, filled(3), OUTCOME)

        async with asyncio.timeout(DEADLINE):  # though rank 0 lives and keeps the pipe open
            with pytest.raises(RuntimeError, match="a programming error"):
                await far.ended


async def test_memory_that_cannot_be_read_ends_the_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is no sign of a service that is away, which would be asked for ever."""

    def unreadable(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    service = Scripted()
    async with linked(service) as far:
        monkeypatch.setattr("dbp.link.upload.os.pread", unreadable)
        far.send(STARTED, filled(3))

        async with asyncio.timeout(DEADLINE):
            with pytest.raises(OSError, match="Input/output error"):
                await far.ended


async def test_an_unforeseen_error_while_the_rest_is_delivered_ends_the_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with linked(Scripted()) as far:
        monkeypatch.setattr("dbp.link.outbox.Outbox.drained", broken)
        far.send(STARTED, OUTCOME)

        with pytest.raises(RuntimeError, match="a programming error"):
            await far.close()


async def test_a_task_that_is_cancelled_from_within_ends_the_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def cancelled(*_: object) -> bool:
        raise asyncio.CancelledError

    async with linked(Scripted()) as far:
        monkeypatch.setattr("dbp.link.upload.Publisher.publish", cancelled)
        far.send(STARTED, filled(3))

        async with asyncio.timeout(DEADLINE):
            with pytest.raises(RuntimeError, match="publishing: cancelled from within"):
                await far.ended


async def test_a_probe_is_answered_while_the_service_is_away(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with linked(Scripted(), away=True) as far:
        far.send(STARTED, Probe(), filled(3), Probe())

        found: list[ToRank] = []
        async with asyncio.timeout(DEADLINE):
            while len(found) < 2:
                await asyncio.sleep(0.01)
                found += sent_to_rank(capsys)
        assert found == [Alive(), Alive()]
        assert await far.close() == 1


async def test_every_call_carries_the_number_of_the_link() -> None:
    service = Scripted()
    async with linked(service, generation=7) as far:
        far.send(STARTED, filled(3), OUTCOME)

        assert await far.close() == 0

    assert service.generations == {7}
