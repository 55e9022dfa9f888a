"""Costs of access control: the gate of a call, a token over TCP and TLS, a process for a check.

``python -m tests.benchmarks.access_cost`` from the root of the repository. Server and caller
share one process and its event loop, so each figure is that of both sides. The variants take
turns, call by call.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dbp.access.roles import Role
from dbp.access.tokens import TokenStore
from dbp.data_roots import DataRoots
from dbp.job.spec.resolve import resolve
from dbp.jobs.checks import CheckRequest
from dbp.service.check_pool import CheckPool
from dbp.service.gate import Gate
from dbp.service.guarded_server import GuardedServer
from dbp.service.job_check import check_whole
from dbp.service.tls import ServerTls, TlsFiles
from tests.service.certificates import Authority

METHOD: Final = "/test/Echo"
BODY: Final = bytes(100)

Call = Callable[[], Awaitable[object]]


async def echo(request: bytes, _: object) -> bytes:
    return request


@asynccontextmanager
async def calls(folder: Path) -> AsyncIterator[dict[str, Call]]:
    """The same method of a bare and of a guarded server, over each listener."""
    tokens = TokenStore(folder / "access", "me")
    token, _ = tokens.create(Role.VIEWER, "ann")
    authority = Authority(folder / "ca")
    own = authority.issue("server", "/CN=localhost")
    ca = authority.certificate.read_bytes()
    handlers: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    found: dict[str, Call] = {}
    async with AsyncExitStack() as stack:
        for guarded in (False, True):
            server = grpc.aio.server()
            if guarded:
                gate = Gate(tokens, "me", methods={METHOD: Role.VIEWER})
                GuardedServer(server, gate).add_registered_method_handlers("test", handlers)
            else:
                server.add_registered_method_handlers("test", handlers)
            path = folder / f"{guarded}.sock"
            server.add_insecure_port(f"unix:{path}")
            plain = server.add_insecure_port("127.0.0.1:0")
            tls = ServerTls(TlsFiles(own.certificate, own.key)).credentials()
            secure = server.add_secure_port("127.0.0.1:0", tls)
            await server.start()
            stack.push_async_callback(server.stop, None)
            channels = {
                "socket": grpc.aio.insecure_channel(f"unix:{path}"),
                "TCP": grpc.aio.insecure_channel(f"127.0.0.1:{plain}"),
                "TCP, TLS": grpc.aio.secure_channel(
                    f"localhost:{secure}", grpc.ssl_channel_credentials(ca)
                ),
            }
            for name, channel in channels.items():
                await stack.enter_async_context(channel)
                sends = guarded and name != "socket"
                metadata = (("authorization", f"Bearer {token}"),) if sends else ()
                kind = "gate" + ", token" * sends if guarded else "bare"
                found[f"{name}: {kind}"] = _call(channel, metadata)
        yield found


def _call(channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> Call:
    method: Any = channel.unary_unary(METHOD)
    return lambda: method(BODY, metadata=metadata)


def document(reader: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "checked",
        "data": {"train": reader},
        "model": {"layers": [{"kind": "dense", "units": 2}], "loss": "softmax_cross_entropy"},
        "optimizer": "sgd",
        "train": {"steps": 1, "lanes": 1},
    }


@asynccontextmanager
async def checks(folder: Path) -> AsyncIterator[dict[str, Call]]:
    """The check of a job with a small Parquet file: in a thread, and in a process."""
    rows = 100
    columns = {"a": np.ones(rows), "b": np.ones(rows), "y": np.arange(rows) % 2}
    pq.write_table(pa.table(columns), folder / "x.parquet")
    spec = document({"kind": "parquet", "path": str(folder / "x.parquet"), "target": "y"})
    roots = DataRoots.of([folder])
    request = CheckRequest(
        spec, 1, "ann", whole=True, seconds=60.0, memory_bytes=2**30, confined=True
    )
    pool = CheckPool([folder])

    def in_thread() -> object:
        return check_whole(resolve(spec, data_roots=roots), 1, roots)

    try:
        yield {
            "check in a thread": lambda: asyncio.to_thread(in_thread),
            "check in a process": lambda: pool.check(request),
        }
    finally:
        pool.close()


async def times(variants: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each call, in turns, after one of each that does not count."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, call in variants.items():
            begun = time.perf_counter()
            await call()
            if number:
                found[name].append((time.perf_counter() - begun) * 1e3)
    return found


async def measure(rounds: int, check_rounds: int) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as name:
        async with calls(Path(name)) as variants:
            found = await times(variants, rounds)
        async with checks(Path(name)) as variants:
            return found | await times(variants, check_rounds)


def report(found: dict[str, list[float]]) -> None:
    print(f"{'ms':24} {'median':>8} {'p99':>8}")
    for name, taken in found.items():
        p99 = sorted(taken)[int(0.99 * (len(taken) - 1))]
        print(f"{name:24} {statistics.median(taken):8.3f} {p99:8.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3_000)
    parser.add_argument("--check-rounds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="a few calls, to see that it runs")
    asked = parser.parse_args()
    rounds = (20, 1) if asked.quick else (asked.rounds, asked.check_rounds)
    report(asyncio.run(measure(*rounds)))
