"""How fast parameters are served, beside what this grpcio can do with nothing behind it.

``python -m tests.benchmarks.serving`` from the root of the repository. Servers and clients are
processes of their own (``serving_worker``); rounds are interleaved, figures are medians, ratios
are of one run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, Self, cast, final

from dbp.v1 import parameter_service_pb2 as pb
from tests.benchmarks.serving_worker import BARE_STREAM, BARE_UNARY, MIB
from tests.credentials import open_plain_channel

ROOT: Final = Path(__file__).resolve().parents[2]
STREAM: Final = "/dbp.v1.ParameterService/StreamParameters"
INFO: Final = "/dbp.v1.ParameterService/GetParameterInfo"
CHUNKS: Final = (1 << 16, 1 << 18, 1 << 20, 1 << 21, 3 << 20)


@final
class Worker:
    """One process of ``serving_worker``."""

    def __init__(self, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.serving_worker", *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def hear(self) -> dict[str, Any]:
        """Its next line."""
        content: dict[str, Any] = json.loads(cast("IO[str]", self._process.stdout).readline())
        return content

    def say(self, line: str) -> dict[str, Any]:
        """Its answer to a line."""
        pipe = cast("IO[str]", self._process.stdin)
        pipe.write(line + "\n")
        pipe.flush()
        return self.hear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def dbp_service(megabytes: int) -> Iterator[tuple[Worker, str, str]]:
    """dbp's service with one version of so many megabytes: (worker, address, job)."""
    with (
        tempfile.TemporaryDirectory() as folder,  # the worker is killed
        Worker("dbp_server", megabytes, folder) as server,
    ):
        told = server.hear()
        server.say("small")  # for clients to warm up with
        server.say("large")
        yield server, told["address"], told["job"]


def request_of(job: str, chunk_bytes: int = 0) -> str:
    """A request for all of the newest version, serialized, in hexadecimal."""
    request = pb.StreamParametersRequest(chunk_bytes=chunk_bytes)
    request.selector.job = f"jobs/{job}"
    return request.SerializeToString().hex()


def measure(clients: list[list[object]]) -> list[dict[str, Any]]:
    """Clients at the same time; what each has told."""
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(*arguments)) for arguments in clients]
        return [worker.hear() for worker in workers]


def streaming(megabytes: int, rounds: int) -> None:
    """To one client and to eight at once; the best bare method is the ceiling."""
    print(f"| {megabytes} MB, 1 MiB chunks | clients | MB/s each | of ceiling | first byte |")
    print("|---|---|---|---|---|", flush=True)
    with (
        Worker("bare_aio", megabytes, MIB, "00") as aio,
        Worker("bare_sync", megabytes, MIB) as sync,
        dbp_service(megabytes) as (_, address, job),
    ):
        ask, bare = request_of(job), aio.hear()["address"]
        kinds: dict[str, list[object]] = {
            "bare, asyncio": ["bare_client", bare, BARE_STREAM, "00", 3],
            "bare, threads": ["bare_client", sync.hear()["address"], BARE_STREAM, "00", 3],
            "dbp, read by a bare client": ["bare_client", address, STREAM, ask, 3],
            "bare, kept and verified": ["keeping_client", bare, BARE_STREAM, "00", 3],
            "dbp, kept and verified": ["dbp_client", address, job, 3],
        }
        growth: list[float] = []
        for clients in (1, 8):
            times: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
            for _ in range(rounds):
                for kind, arguments in kinds.items():
                    for told in measure([arguments] * clients):
                        times[kind] += told["rounds"][1:]
                        growth += [told["growth"]] if "growth" in told and clients == 1 else []
            rates = {
                kind: statistics.median(size / seconds / 1e6 for seconds, _, size in values)
                for kind, values in times.items()
            }
            ceiling = max(rates["bare, asyncio"], rates["bare, threads"])
            for kind, rate in rates.items():
                first = statistics.median(value[1] for value in times[kind]) * 1e3
                print(
                    f"| {kind} | {clients} | {rate:.0f} | {rate / ceiling:.2f} | "
                    + (f"{first:.1f} ms |" if first else "- |"),
                    flush=True,
                )
        middle = statistics.median(growth)
        print(
            f"\nPeak memory of dbp's client: {middle:.2f} times the payload, at most "
            f"{max(growth):.2f}.\n"
        )


def chunk_sweep(megabytes: int, rounds: int) -> None:
    """The same to one client, by size of the chunks."""
    print("| MB/s by chunk | " + " | ".join(f"{size >> 10} KiB" for size in CHUNKS) + " |")
    print("|---" * (len(CHUNKS) + 1) + "|", flush=True)
    rates: dict[str, dict[int, list[float]]] = {
        kind: {size: [] for size in CHUNKS} for kind in ("bare", "dbp")
    }
    with dbp_service(megabytes) as (_, address, job):
        for _ in range(rounds):
            for size in CHUNKS:
                with Worker("bare_aio", megabytes, size, "00") as bare:
                    at = bare.hear()["address"]
                    found = measure([["bare_client", at, BARE_STREAM, "00", 3]])
                rates["bare"][size] += [n / s / 1e6 for s, _, n in found[0]["rounds"][1:]]
                ask = request_of(job, size)
                found = measure([["bare_client", address, STREAM, ask, 3]])
                rates["dbp"][size] += [n / s / 1e6 for s, _, n in found[0]["rounds"][1:]]
    for kind, by_size in rates.items():
        cells = " | ".join(f"{statistics.median(values):.0f}" for values in by_size.values())
        print(f"| {kind} | {cells} |", flush=True)
    print()


def notification(versions: int) -> None:
    """From a publisher's call, or its answer, to a watching client."""
    print("| from | to | median | p99 |\n|---|---|---|---|", flush=True)
    for kind, megabytes in (("small", 1), ("large", 40)):
        with dbp_service(megabytes) as (server, address, job):
            with Worker("watcher", address, job, versions, 1, "data") as client:
                client.hear()
                published = _publish(server, kind, versions)
                (told,) = client.hear()["told"]
            size = "0.4 MB" if kind == "small" else f"{megabytes} MB"
            for since, moment in (("sent", "call"), ("published", "answer")):
                for name, place in (("first", 1), ("last", 2)):
                    late = [entry[place] - published[int(entry[0])][since] for entry in told]
                    figures = _milliseconds(late)
                    print(f"| {moment} | the {name} byte of {size} | {figures} |", flush=True)
    with dbp_service(1) as (server, address, job):
        with Worker("watcher", address, job, 10, 1_000, "notify") as client:
            client.hear()
            published = _publish(server, "small", 10)
            watches = client.hear()["told"]
        last = [
            max(watch[index][1] for watch in watches)
            - published[int(watches[0][index][0])]["sent"]
            for index in range(10)
        ]
        figures = _milliseconds(last)
        print(f"| call | the word at the last of 1,000 watchers | {figures} |\n", flush=True)


def _publish(
    server: Worker, kind: str, versions: int, pause: float = 0.2
) -> dict[int, dict[str, float]]:
    """Publish so many more; of each, by its number, when it was sent and published."""
    published: dict[int, dict[str, float]] = {}
    for _ in range(versions):
        time.sleep(pause)
        told = server.say(kind)
        published[told["step"]] = told
    return published


def _milliseconds(seconds: list[float]) -> str:
    middle, worst = _both(seconds)
    return f"{middle:.1f} ms | {worst:.1f} ms"


def _both(seconds: list[float]) -> tuple[float, float]:
    """Median and p99, in milliseconds."""
    ordered = sorted(value * 1e3 for value in seconds)
    return statistics.median(ordered), ordered[
        min(len(ordered) - 1, round(0.99 * len(ordered)))
    ]


def information(count: int) -> None:
    """GetParameterInfo beside a bare unary method with the same answer."""
    with dbp_service(1) as (server, address, job):
        server.say("small")
        request = pb.GetParameterInfoRequest()
        request.selector.job = f"jobs/{job}"
        ask = request.SerializeToString()
        with open_plain_channel(address) as channel:
            method: Any = channel.unary_unary(INFO)
            answer: bytes = method(ask)
        with Worker("bare_aio", 1, MIB, answer.hex()) as bare:
            at = bare.hear()["address"]
            pairs = [[at, BARE_UNARY, ask.hex()], [address, INFO, ask.hex()]]
            (told,) = measure([["unary_load", json.dumps(pairs), count, 2.0]])
    p50, rates = told["p50"], told["rates"]
    print("| GetParameterInfo | bare | dbp | ratio |\n|---|---|---|---|")
    print(f"| p50 | {p50[0] * 1e3:.3f} ms | {p50[1] * 1e3:.3f} ms | {p50[1] / p50[0]:.2f} |")
    ratio = rates[0] / rates[1]
    print(f"| 16 callers | {rates[0]:.0f}/s | {rates[1]:.0f}/s | {ratio:.2f} |\n", flush=True)


def stopped_reader(rounds: int, versions: int) -> None:
    """100 watchers with data, and one that is stopped in every other round.

    A figure is the median of the rounds', lest one round that was disturbed decides.
    """
    late: dict[bool, list[list[float]]] = {False: [], True: []}
    memory: list[int] = []
    with dbp_service(1) as (server, address, job):
        for number in range(2 * rounds):
            stopped = bool(number % 2)
            with contextlib.ExitStack() as stack:
                arguments = ("watcher", address, job, versions)
                odd = stack.enter_context(Worker(*arguments, 1, "data"))
                others = [stack.enter_context(Worker(*arguments, 25, "data")) for _ in range(4)]
                for client in (odd, *others):
                    client.hear()
                if stopped:
                    os.kill(odd.pid, signal.SIGSTOP)
                published = _publish(server, "small", versions, pause=0.1)
                late[stopped].append(
                    [
                        entry[2] - published[int(entry[0])]["sent"]
                        for client in others
                        for watch in client.hear()["told"]
                        for entry in watch
                        if int(entry[0]) in published
                    ]
                )
            memory.append(_resident(server.pid))
    print("| 100 watchers, 0.4 MB versions, to the last byte | median | p99 |\n|---|---|---|")
    for stopped, values in late.items():
        name = "and one that is stopped" if stopped else "and one that reads"
        figures = [
            statistics.median(column) for column in zip(*map(_both, values), strict=True)
        ]
        print(f"| {name} | {figures[0]:.1f} ms | {figures[1]:.1f} ms |")
    sizes = ", ".join(str(size >> 20) for size in memory)
    print(f"\nMemory of the service after each round: {sizes} MiB\n", flush=True)


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main(parts: list[str], *, quick: bool) -> None:
    """Print the tables."""
    megabytes, rounds = (8, 1) if quick else (200, 5)
    known = {
        "streaming": lambda: streaming(megabytes, rounds),
        "chunks": lambda: chunk_sweep(megabytes, 1 if quick else 3),
        "notification": lambda: notification(5 if quick else 40),
        "information": lambda: information(50 if quick else 3_000),
        "stopped": lambda: stopped_reader(1 if quick else 15, 5 if quick else 20),
    }
    for part in parts or known:
        known[part]()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="streaming, chunks, notification, ...")
    parser.add_argument("--quick", action="store_true", help="small, to see that it works")
    given = parser.parse_args()
    main(given.parts, quick=given.quick)
