"""A pool of connections: calls beyond the streams of one go over another."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from dbp.rpc.channel import MAX_STREAMS, SERVER_OPTIONS
from dbp.rpc.stream_pool import STREAMS_BEFORE_NEXT, StreamPool
from tests.deadline import DEADLINE

PATH = "/test/watch"
ROOT = Path(__file__).resolve().parents[2]


class Watches(grpc.GenericRpcHandler):
    """A server with one endless method; counts the calls of each connection."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        async def watch(request: bytes, context: Any) -> Any:
            peer = context.peer()
            self.open[peer] = self.open.get(peer, 0) + 1
            try:
                yield b"first"
                await asyncio.Event().wait()
            finally:
                self.open[peer] -= 1

        return grpc.unary_stream_rpc_method_handler(watch)


def opened(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),))


async def test_the_stream_after_the_last_of_a_connection_does_not_wait() -> None:
    watches = Watches()
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((watches,))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()

    async with StreamPool(lambda: opened(address)) as pool, asyncio.timeout(DEADLINE):
        method = pool.unary_stream(PATH)
        calls = [method(b"") for _ in range(2 * MAX_STREAMS)]
        first = [await call.read() for call in calls]
        by_connection = sorted(watches.open.values())
        for call in calls:
            call.cancel()
        while any(watches.open.values()):
            await asyncio.sleep(0.01)
        again = method(b"")
        await again.read()
        after = sorted(watches.open.values())

    await server.stop(None)
    assert first == [b"first"] * 2 * MAX_STREAMS
    assert by_connection == [20, STREAMS_BEFORE_NEXT, STREAMS_BEFORE_NEXT]
    assert after == [0, 0, 1]


async def test_an_ended_call_of_any_kind_frees_its_stream() -> None:
    async with StreamPool(lambda: opened("127.0.0.1:1")) as pool:
        for make in (pool.unary_unary, pool.stream_unary, pool.unary_stream):
            for _ in range(STREAMS_BEFORE_NEXT + 10):
                call = make(PATH)(b"" if make != pool.stream_unary else None)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await (call.read() if make == pool.unary_stream else call)

        assert [connection.open for connection in pool._connections] == [0]


def test_the_pool_stays_below_what_services_allow() -> None:
    assert dict(SERVER_OPTIONS)["grpc.max_concurrent_streams"] == MAX_STREAMS
    assert STREAMS_BEFORE_NEXT < MAX_STREAMS


@pytest.mark.parametrize(
    "page",
    ["README.md", "deploy/README.md", "protos/dbp/v1/job_service.proto",
     "protos/dbp/v1/parameter_service.proto"],
)  # fmt: skip
def test_the_pages_name_the_limit_of_a_connection(page: str) -> None:
    text = " ".join((ROOT / page).read_text().replace("//", " ").split())
    assert f"connection has at most {MAX_STREAMS} open calls" in text
    if page.endswith(".proto"):
        assert f"as dbp's Python client does at {STREAMS_BEFORE_NEXT}" in text
