"""What goes wrong inside a method, whatever its kind, reaches the caller as a proper status."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from dbp.access.roles import Role
from dbp.access.tokens import TokenStore
from dbp.errors import DbpError, WrongState
from dbp.rpc.channel import connect
from dbp.service.gate import Gate
from dbp.service.guarded_server import GuardedServer
from tests.deadline import DEADLINE
from tests.service.callers import bearer
from tests.service.setups import details, read_all, until

KINDS = ["unary", "stream", "gather", "echo", "written"]
SECRET = "/home/somebody/secret.txt"


class Methods:
    """One method of each kind, all of which do what the request says."""

    def __init__(self) -> None:
        self.closed = 0

    async def unary(self, request: bytes, context: Any) -> bytes:
        return self._do(request)

    async def stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            if request == b"wait":
                await asyncio.Event().wait()
            while request == b"flood":
                yield b"x" * 100_000
            yield self._do(request)
        finally:
            self.closed += 1

    async def gather(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return self._do(b"".join([request async for request in requests]))

    async def echo(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield self._do(request)

    async def written(self, request: bytes, context: Any) -> None:
        """As the services that come with gRPC do it."""
        await context.write(b"first")
        await context.write(self._do(request))

    def _do(self, request: bytes) -> bytes:
        match request:
            case b"refuse":
                raise WrongState("not now; later")
            case b"break":
                raise ValueError(f"no such file {SECRET}")
        return request


def utf8(data: bytes) -> bytes:
    """A decoder that refuses, as those of messages do."""
    data.decode()
    return data


def handlers_of(methods: Methods) -> dict[str, Any]:
    return {
        "unary": grpc.unary_unary_rpc_method_handler(methods.unary, utf8),
        "stream": grpc.unary_stream_rpc_method_handler(methods.stream, utf8),
        "gather": grpc.stream_unary_rpc_method_handler(methods.gather, utf8),
        "echo": grpc.stream_stream_rpc_method_handler(methods.echo, utf8),
        "written": grpc.unary_stream_rpc_method_handler(methods.written, utf8),
        "unlisted": grpc.unary_unary_rpc_method_handler(methods.unary, utf8),
    }


def open_gate(folder: Path) -> Gate:
    """A gate that lets everybody call the methods, except ``unlisted``: it has no row."""
    tokens = TokenStore(folder / "access", "me")
    return Gate(tokens, "me", methods=dict.fromkeys(map("/test/{}".format, KINDS)))


@pytest.fixture
async def methods() -> Methods:
    return Methods()


@pytest.fixture(params=["generic", "registered"])
async def channel(
    methods: Methods, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    handlers = handlers_of(methods)
    guarded = GuardedServer(server, open_gate(tmp_path))
    if request.param == "generic":
        generic = grpc.method_handlers_generic_handler("test", handlers)
        guarded.add_generic_rpc_handlers((generic,))
    else:
        guarded.add_registered_method_handlers("test", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with connect(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


async def call(channel: Any, method: str, request: bytes) -> list[bytes]:
    """All answers of a method."""
    path = f"/test/{method}"
    match method:
        case "unary":
            return [await channel.unary_unary(path)(request)]
        case "gather":
            return [await channel.stream_unary(path)(iter([request]))]
        case "echo":
            return await read_all(channel.stream_stream(path)(iter([request])))
    return await read_all(channel.unary_stream(path)(request))


async def test_a_method_that_is_not_in_the_table_of_roles_is_refused(
    channel: Any,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="no role may call this method") as caught:
        await channel.unary_unary("/test/unlisted")(b"x")

    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


EVERY_KIND = pytest.mark.parametrize("method", KINDS)


@EVERY_KIND
async def test_answers_without_a_failure_pass_unchanged(
    channel: grpc.aio.Channel, method: str
) -> None:
    before = [b"first"] if method in ("stream", "written") else []

    assert await call(channel, method, b"fine") == [*before, b"fine"]


@EVERY_KIND
async def test_an_error_of_ours_keeps_its_code_and_text(
    channel: grpc.aio.Channel, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, method, b"refuse")

    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == "not now; later"
    info = details(caught.value, error_details_pb2.ErrorInfo())
    assert (info.domain, info.reason) == ("dbp", "WRONG_STATE")
    assert not caplog.records, "a refusal is nothing for the log"


@EVERY_KIND
async def test_an_unexpected_error_is_in_the_log_and_not_in_the_answer(
    channel: grpc.aio.Channel, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, method, b"break")

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    text = caught.value.details() or ""
    found = re.fullmatch("internal error ([0-9a-f]{8}): see the service's log", text)
    assert found is not None, text
    info = details(caught.value, error_details_pb2.ErrorInfo())
    assert (info.domain, info.reason) == ("dbp", "INTERNAL")
    assert dict(info.metadata) == {"correlation_id": found[1]}
    assert SECRET not in str(caught.value)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert f"/test/{method} failed ({found[1]})" in record.getMessage()
    assert record.exc_info is not None
    assert SECRET in str(record.exc_info[1])


@EVERY_KIND
async def test_bytes_that_are_no_message_are_the_caller_s_mistake(
    channel: grpc.aio.Channel, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, method, b"\xff")

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    told = caught.value.details() or ""
    assert told.startswith(f"/test/{method}: cannot read 1 byte as the message")
    assert "codec" not in told
    assert not caplog.records


async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, "nothing", b"")

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("request_", [b"wait", b"flood"])
async def test_a_stream_is_closed_as_soon_as_its_reader_is_gone(
    channel: Any, methods: Methods, request_: bytes
) -> None:
    stream = channel.unary_stream("/test/stream")(request_)
    assert await stream.read() == b"first"

    stream.cancel()

    await until(lambda: methods.closed == 1)


def test_the_longest_text_is_cut_before_it_is_sent() -> None:
    from dbp.rpc.status import MAX_TEXT_BYTES, text_of

    assert len(text_of(DbpError("x" * 10_000))) <= MAX_TEXT_BYTES


@EVERY_KIND
async def test_a_caller_that_is_gone_is_no_failure(
    methods: Methods, method: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """gRPC fails to send a moment before it cancels the method."""
    registered: dict[str, Any] = {}

    class Server:
        def add_registered_method_handlers(self, name: str, handlers: Any) -> None:
            registered.update(handlers)

    class Gone:
        def __init__(self) -> None:
            self._messages: list[object] = [b"refuse", grpc.aio.EOF]

        async def read(self) -> object:
            return self._messages.pop(0)

        async def send_initial_metadata(self, metadata: object) -> None:
            pass

        async def write(self, answer: bytes) -> None:
            raise grpc.aio.InternalError("cannot be sent")

        async def abort(self, *status: Any) -> None:
            raise grpc.aio.InternalError("cannot be sent")

        def peer(self) -> str:
            return "unix:"

    async def requests() -> AsyncIterator[bytes]:
        yield b"refuse"

    server: Any = Server()
    guarded = GuardedServer(server, open_gate(tmp_path))
    guarded.add_registered_method_handlers("test", handlers_of(methods))
    handler = registered[method]
    call = handler.stream_unary or handler.stream_stream

    with pytest.raises(asyncio.CancelledError):
        await call(requests(), Gone())

    assert not caplog.records


LARGE = b"x" * (3 << 20)  # more than gRPC sends to a caller who does not read
SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024))


@pytest.mark.parametrize("kind", ["stream", "written"])
async def test_a_call_that_is_ended_during_its_first_write_gets_its_status(
    tmp_path: Path, kind: str
) -> None:
    tokens = TokenStore(tmp_path / "access", "me")
    token, made = tokens.create(Role.VIEWER, "ann")
    gate = Gate(tokens, "me", methods={"/test/large": Role.VIEWER})
    writing = asyncio.Event()

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        writing.set()
        yield LARGE

    async def written(request: bytes, context: Any) -> None:
        writing.set()
        await context.write(LARGE)

    handler: Any = {"stream": stream, "written": written}[kind]
    server = grpc.aio.server()
    GuardedServer(server, gate).add_registered_method_handlers(
        "test", {"large": grpc.unary_stream_rpc_method_handler(handler)}
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with (
            asyncio.timeout(DEADLINE),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=SMALL_WINDOW) as channel,
        ):
            method: Any = channel.unary_stream("/test/large")
            call = method(b"", metadata=bearer(token))
            await writing.wait()
            await asyncio.sleep(0.1)  # the write has begun, and waits for the caller
            tokens.revoke(made.id)
            gate.end_calls()

            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await read_all(call)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "revoked during the call" in str(caught.value.details())
    finally:
        await server.stop(None)


class Unsendable:
    """The context of a call whose header cannot be sent: that fails after an event."""

    def __init__(self, fails: asyncio.Event) -> None:
        self.sending = asyncio.Event()
        self._fails = fails
        self._messages: list[object] = [b"", grpc.aio.EOF]

    async def read(self) -> object:
        return self._messages.pop(0)

    async def send_initial_metadata(self, metadata: object) -> None:
        self.sending.set()
        await self._fails.wait()
        raise grpc.aio.InternalError("SendInitialMetadataOperation")

    async def abort(self, *status: Any) -> None:
        raise grpc.aio.InternalError("cannot be sent")

    def peer(self) -> str:
        return "unix:"


@pytest.mark.parametrize("kind", ["stream", "written"])
@pytest.mark.parametrize("cancels", [0, 1, 2])
async def test_a_header_that_fails_is_no_failure_of_the_service(
    methods: Methods,
    kind: str,
    cancels: int,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
    tmp_path: Path,
) -> None:
    """Neither an error in the log nor a coroutine that is never awaited."""
    registered: dict[str, Any] = {}

    class Server:
        def add_registered_method_handlers(self, name: str, handlers: Any) -> None:
            registered.update(handlers)

    server: Any = Server()
    guarded = GuardedServer(server, open_gate(tmp_path))
    guarded.add_registered_method_handlers("test", handlers_of(methods))
    fails = asyncio.Event()
    context = Unsendable(fails)
    call = asyncio.create_task(registered[kind].stream_stream(None, context))
    await asyncio.wait_for(context.sending.wait(), DEADLINE)
    for _ in range(cancels):
        call.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    fails.set()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(call, DEADLINE)
    del call
    await asyncio.sleep(0)
    gc.collect()

    assert not caplog.records
    assert not [str(warning.message) for warning in recwarn]
