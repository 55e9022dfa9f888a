"""ModelInfer beside a bare unary method that answers the same bytes, in turns.

Both are served by one process on one event loop, in a process of their own; the caller sends
and takes bytes. What the two differ by is thus what dbp adds to gRPC: reading the request,
finding the version, the model, writing the answer. ``python -m tests.benchmarks.inference``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import grpc
import numpy as np

from dbp.inference import open_inference_pb2 as pb
from tests.credentials import open_channel

INPUTS: Final = 784
INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
BARE: Final = "/bare.Service/Echo"


def asked(job: str, rows: int) -> pb.ModelInferRequest:
    """A request of random rows."""
    x = np.random.default_rng(0).random((rows, INPUTS), np.float32)
    request = pb.ModelInferRequest(model_name=job, raw_input_contents=[x.tobytes()])
    request.inputs.add(name="inputs", datatype="FP32", shape=x.shape)
    return request


async def serve() -> None:
    """The service with a published model, and a bare server; ends with its standard input."""
    from tests.service.inference.setups import drawn, metadata, publish
    from tests.service.setups import serving

    strings = metadata(
        {"kind": "dense", "units": 128}, {"kind": "relu"}, {"kind": "dense", "units": 10},
        inputs=(INPUTS,), scaling={"kind": "unit", "scale": 255.0},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Path(folder) / "state") as service:
            run = await service.start()
            await publish(service, run, 1, drawn(strings), strings)
            infer: Any = service.channel.unary_unary(INFER)
            answer = await infer(asked(run.id, 1).SerializeToString())
            server, port = await bare_server(answer)
            print(service.address, f"127.0.0.1:{port}", run.id, flush=True)
            await asyncio.to_thread(sys.stdin.read)
            await server.stop(None)


async def bare_server(answer: bytes) -> tuple[grpc.aio.Server, int]:
    """A server whose one method answers these bytes."""

    async def echo(request: bytes, context: Any) -> bytes:
        return answer

    server = grpc.aio.server()
    handler: Any = grpc.unary_unary_rpc_method_handler(echo)
    service, method = BARE[1:].split("/")
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


async def latencies(call: Any, request: bytes, calls: int) -> list[float]:
    """Microseconds of each of some calls, one after the other."""
    found = []
    for _ in range(calls):
        begin = time.perf_counter()
        await call(request)
        found.append(1e6 * (time.perf_counter() - begin))
    return found


async def throughput(call: Any, request: bytes, clients: int, seconds: float) -> float:
    """Answers a second to clients that ask again at once."""
    end = time.perf_counter() + seconds
    count = 0

    async def client() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await call(request)
            count += 1

    begin = time.perf_counter()
    await asyncio.gather(*[client() for _ in range(clients)])
    return count / (time.perf_counter() - begin)


async def measure(addresses: Sequence[str], job: str, arguments: argparse.Namespace) -> None:
    """Print both tables."""
    request = asked(job, arguments.rows).SerializeToString()
    async with contextlib.AsyncExitStack() as stack:
        calls: list[Any] = []
        for address, method in zip(addresses, (INFER, BARE), strict=True):
            channel = open_channel(address)
            await stack.enter_async_context(channel)
            calls.append(channel.unary_unary(method))
        infer, bare = calls
        for call in (infer, bare):
            await latencies(call, request, 200)
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(arguments.rounds):
            theirs += await latencies(bare, request, arguments.calls)
            ours += await latencies(infer, request, arguments.calls)
        print(f"{'one caller':24}{'p50 us':>10}{'p99 us':>10}{'ratio':>8}")
        base = statistics.median(theirs)
        for name, values in (("bare unary method", theirs), ("ModelInfer", ours)):
            p50, p99 = np.percentile(values, [50, 99])
            print(f"{name:24}{p50:10.0f}{p99:10.0f}{p50 / base:8.2f}")
        rates: dict[str, list[float]] = {"bare unary method": [], "ModelInfer": []}
        for _ in range(arguments.rounds):
            for name, call in zip(rates, (bare, infer), strict=True):
                rates[name].append(
                    await throughput(call, request, arguments.clients, arguments.seconds)
                )
        print(f"\n{f'{arguments.clients} callers':24}{'calls/s':>10}{'ratio':>8}")
        most = statistics.median(rates["bare unary method"])
        for name, found in rates.items():
            rate = statistics.median(found)
            print(f"{name:24}{rate:10.0f}{most / rate:8.2f}")


def main() -> None:
    """Read the command line, start the servers, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=500, help="of each kind in each round")
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each throughput")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve())
        return
    command = [sys.executable, "-m", "tests.benchmarks.inference", "--serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        *addresses, job = process.stdout.readline().split()
        asyncio.run(measure(addresses, job, arguments))
        process.communicate()


if __name__ == "__main__":
    main()
