"""The processes of ``tests.benchmarks.serving``: bare servers, dbp's, and clients of each kind.

``python -m tests.benchmarks.serving_worker ROLE ARGUMENTS``; a server prints one line of JSON
when it listens, a client one when it is done. "Bare" is grpcio and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, Final

import google_crc32c
import grpc
import numpy as np

from dbp.client.async_client import AsyncClient
from dbp.client.transport.receiver import HASHED_AT_A_TIME
from dbp.service.parameters.encoded import chunk_message
from dbp.v1 import parameter_service_pb2 as pb
from tests.credentials import open_channel
from tests.service.setups import serving

MIB: Final = 1 << 20
BARE_STREAM: Final = "/bare.Bare/Stream"
BARE_UNARY: Final = "/bare.Bare/Unary"
UNLIMITED: Final = (("grpc.max_receive_message_length", -1),)


def tell(**content: Any) -> None:
    """One line for the parent."""
    print(json.dumps(content), flush=True)


def _handlers(stream: Any, unary: Any) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        "bare.Bare",
        {
            "Stream": grpc.unary_stream_rpc_method_handler(stream),
            "Unary": grpc.unary_unary_rpc_method_handler(unary),
        },
    )


def _messages(megabytes: int, chunk_bytes: int) -> list[bytes]:
    data = os.urandom(chunk_bytes)
    count = megabytes * MIB // chunk_bytes
    return [chunk_message(number * chunk_bytes, data) for number in range(count)]


async def bare_aio(megabytes: int, chunk_bytes: int, answer: bytes) -> None:
    """A grpc.aio server that sends the same preallocated messages, or one small answer."""
    messages = _messages(megabytes, chunk_bytes)

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for message in messages:
            yield message

    async def unary(request: bytes, context: Any) -> bytes:
        return answer

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_handlers(stream, unary),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    tell(address=f"127.0.0.1:{port}")
    await server.wait_for_termination()


def bare_sync(megabytes: int, chunk_bytes: int) -> None:
    """The same with grpcio's threads."""
    messages = _messages(megabytes, chunk_bytes)

    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        yield from messages

    server = grpc.server(futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((_handlers(stream, lambda request, context: b""),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    tell(address=f"127.0.0.1:{port}")
    server.wait_for_termination()


async def dbp_server(megabytes: int, folder: str) -> None:
    """dbp's service with one running job, on a folder; publishes a version for each line."""
    rng = np.random.default_rng(0)
    small = {
        "0.weight": rng.standard_normal((128, 784), np.float32),
        "0.bias": rng.standard_normal(128, np.float32),
        "2.weight": rng.standard_normal((10, 128), np.float32),
        "2.bias": rng.standard_normal(10, np.float32),
    }
    large = {"0.weight": rng.standard_normal((megabytes, MIB // 4), np.float32)}
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    async with serving(Path(folder) / "state") as service:
        run = await service.start(publish={"every_steps": 1, "keep": 2})
        tell(address=service.address, job=run.id)
        step = 0
        while line := (await lines.readline()).decode().strip():
            step += 1
            sent = time.monotonic()
            await run.publish(step, small if line == "small" else large)
            tell(step=step, sent=sent, published=time.monotonic())


async def bare_client(address: str, method: str, request: str, rounds: int) -> None:
    """Streams read and counted, nothing else."""
    async with open_channel(address, options=UNLIMITED) as channel:
        call: Any = channel.unary_stream(method)
        found = []
        for _ in range(rounds):
            start, first, size = time.perf_counter(), 0.0, 0
            async for message in call(bytes.fromhex(request)):
                if len(message) > 60_000 and not first:
                    first = time.perf_counter() - start
                size += len(message)
            found.append([time.perf_counter() - start, first, size])
    tell(rounds=found)


async def keeping_client(address: str, method: str, request: str, rounds: int) -> None:
    """Streams kept in one buffer and verified as dbp's client does it, by nothing but this."""
    async with open_channel(address, options=UNLIMITED) as channel:
        call: Any = channel.unary_stream(method)
        found = []
        for _ in range(rounds):
            start = time.perf_counter()
            size = await _kept(call(bytes.fromhex(request)))
            found.append([time.perf_counter() - start, 0.0, size])
    tell(rounds=found)


async def _kept(messages: Any) -> int:
    """Receive, with a CRC-32C of each message, and the SHA-256 of all on a thread beside."""
    digest, hashing, hashed, filled = hashlib.sha256(), None, 0, 0
    buffer = np.empty(256 * MIB, np.uint8).data
    async for message in messages:
        google_crc32c.value(message)
        buffer[filled : filled + len(message)] = message
        filled += len(message)
        if filled - hashed >= HASHED_AT_A_TIME and (hashing is None or hashing.done()):
            part, hashed = buffer[hashed:filled], filled
            hashing = asyncio.create_task(asyncio.to_thread(digest.update, part))
    if hashing is not None:
        await hashing
    await asyncio.to_thread(digest.update, buffer[hashed:filled])
    return filled


async def dbp_client(address: str, job: str, rounds: int) -> None:
    """dbp's own client: every chunk and the whole verified; also what memory it took."""
    found = []
    async with AsyncClient(address) as client:
        handle = await client.job(job)
        await handle.parameters(version=1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(rounds):
            start = time.perf_counter()
            parameters = await handle.parameters()
            assert parameters is not None
            size = len(parameters.content)
            found.append([time.perf_counter() - start, 0.0, size])
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if len(found) == 1:
                growth = (after - before) * 1024 / size
            del parameters
    tell(rounds=found, growth=growth)


async def watcher(address: str, job: str, versions: int, watches: int, data: bool) -> None:
    """Watches; of each version the time of its first byte and of its last, at each watch."""
    async with open_channel(address, options=UNLIMITED) as channel:
        call: Any = channel.unary_stream("/dbp.v1.ParameterService/WatchParameters")
        request = pb.WatchParametersRequest(job=f"jobs/{job}", newer_than=2, with_data=data)

        async def follow() -> list[list[float]]:
            told: list[list[float]] = []
            async for message in call(request.SerializeToString()):
                parsed = pb.WatchParametersResponse.FromString(message)
                now, kind = time.monotonic(), parsed.WhichOneof("payload")
                if kind == "published":
                    told.append([parsed.published.version.version, now, now])
                elif kind == "chunk" and parsed.chunk.offset == 0:
                    told[-1][1] = now
                elif kind == "trailer":
                    told[-1][2] = now
                if len(told) == versions and (not data or kind == "trailer"):
                    return told
            return told

        following = [asyncio.create_task(follow()) for _ in range(watches)]
        await asyncio.sleep(0.5)
        tell(ready=True)
        tell(told=await asyncio.gather(*following))


async def unary_load(pairs: str, count: int, seconds: float) -> None:
    """Of each (address, method, request): times in alternation, then calls a second by 16."""
    targets = json.loads(pairs)
    channels = [open_channel(address) for address, _, _ in targets]
    calls: list[Any] = [
        channel.unary_unary(method)
        for channel, (_, method, _) in zip(channels, targets, strict=True)
    ]
    requests = [bytes.fromhex(request) for _, _, request in targets]
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(count):
        for index, call in enumerate(calls):
            start = time.perf_counter()
            await call(requests[index])
            times[index].append(time.perf_counter() - start)
    rates: list[list[float]] = [[] for _ in calls]
    for _ in range(5):
        for index, call in enumerate(calls):
            rates[index].append(await _rate(call, requests[index], seconds))
    tell(
        p50=[statistics.median(values[count // 10 :]) for values in times],
        rates=[statistics.median(values) for values in rates],
    )
    for channel in channels:
        await channel.close()


async def _rate(call: Any, request: bytes, seconds: float) -> float:
    done, end = 0, time.perf_counter() + seconds

    async def calling() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call(request)
            done += 1

    await asyncio.gather(*(calling() for _ in range(16)))
    return done / seconds


def main(role: str, *given: str) -> None:
    """Play one role."""
    match role:
        case "bare_aio":
            asyncio.run(bare_aio(int(given[0]), int(given[1]), bytes.fromhex(given[2])))
        case "bare_sync":
            bare_sync(int(given[0]), int(given[1]))
        case "dbp_server":
            asyncio.run(dbp_server(int(given[0]), given[1]))
        case "bare_client":
            asyncio.run(bare_client(given[0], given[1], given[2], int(given[3])))
        case "keeping_client":
            asyncio.run(keeping_client(given[0], given[1], given[2], int(given[3])))
        case "dbp_client":
            asyncio.run(dbp_client(given[0], given[1], int(given[2])))
        case "watcher":
            versions, watches, data = int(given[2]), int(given[3]), given[4] == "data"
            asyncio.run(watcher(given[0], given[1], versions, watches, data))
        case "unary_load":
            asyncio.run(unary_load(given[0], int(given[1]), float(given[2])))


if __name__ == "__main__":
    main(*sys.argv[1:])
