"""The service with 10,000 queued jobs and with 1,000 watchers, beside this disk's fsync.

``python -m tests.benchmarks.service`` from the root of the repository. Service and clients are
processes of their own (``service_worker``). The launcher starts nothing, so that all cores are
the service's and its clients'; the checks of a job and all that is stored are those of
``dbp serve``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final, Self, cast, final

import psutil

from dbp.rpc.spec_convert import spec_to_proto
from dbp.v1 import job_service_pb2 as pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub
from tests.credentials import open_plain_channel
from tests.service.setups import document

ROOT: Final = Path(__file__).resolve().parents[2]
PROBE_EVERY: Final = 10  # submits between two fsyncs of the disk alone
PAGE_BYTES: Final = 4096
FIRST_PAGE: Final = pb.ListJobsRequest()


@final
class Worker:
    """One process of ``service_worker``."""

    def __init__(self, *arguments: object) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.service_worker", *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """Return the number of the process."""
        return self._process.pid

    def read(self) -> dict[str, Any]:
        """Return its next line."""
        line = cast("IO[str]", self._process.stdout).readline()
        content: dict[str, Any] = json.loads(line)
        return content

    def ask(self, line: str) -> dict[str, Any]:
        """Return its answer to a line."""
        pipe = cast("IO[str]", self._process.stdin)
        pipe.write(line + "\n")
        pipe.flush()
        return self.read()

    def kill(self) -> None:
        """Kill it, as a power switch would."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of all lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * len(ordered)))]


def milliseconds(values: Sequence[float]) -> str:
    """Return median, p99 and largest of times in seconds, as cells of a table."""
    figures = (statistics.median(values), percentile(values, 0.99), max(values))
    return " | ".join(f"{1e3 * value:.2f}" for value in figures)


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call took."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def fsyncs(folder: Path) -> Iterator[float]:
    """Yield the seconds of one write of a page and its fsync, again and again."""
    with (folder / "probe").open("wb", buffering=0) as file:
        while True:

            def write() -> None:
                file.write(b"\0" * PAGE_BYTES)
                os.fsync(file.fileno())

            yield timed(write)


def queue(jobs: int) -> None:
    """Submit ``jobs`` jobs one after the other; list, restart, measure the memory."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place, ExitStack() as stack:
        state = Path(place) / "state"
        server = stack.enter_context(Worker("server", state))
        address = server.read()["address"]
        server.ask("run")  # takes the only slot
        with open_plain_channel(address) as channel:
            stub = JobServiceStub(channel)
            submits, probes = _submit(stub, jobs, fsyncs(Path(place)))
            lists = [timed(lambda: stub.ListJobs(FIRST_PAGE)) for _ in range(200)]
            pages = list(itertools.islice(_pages(stub), 200))
        memory = psutil.Process(server.pid).memory_info().rss
        server.kill()
        start = time.perf_counter()
        again = stack.enter_context(Worker("server", state))
        address = again.read()["address"]
        with open_plain_channel(address) as channel:
            stub = JobServiceStub(channel)
            stub.ListJobs(FIRST_PAGE)
            restart = time.perf_counter() - start
            found = len(list(itertools.chain(*_jobs(stub))))
        after = psutil.Process(again.pid).memory_info().rss
    print(f"| {jobs:,} queued jobs, ms | median | p99 | largest |\n|---|---|---|---|")
    print(f"| submit, durable | {milliseconds(submits)} |")
    print(f"| write of a page and fsync, beside it | {milliseconds(probes)} |")
    print(f"| first page of ListJobs (50 jobs) | {milliseconds(lists)} |")
    print(f"| later pages | {milliseconds(pages)} |\n")
    ratio = percentile(submits, 0.99) / percentile(probes, 0.99)
    print(f"p99 of a submit / p99 of an fsync: **{ratio:.2f}**")
    print(f"restart after a kill, until the first answer: **{restart:.2f} s**, {found:,} jobs")
    print(f"memory: **{memory >> 20} MiB**, after the restart {after >> 20} MiB\n", flush=True)


def _submit(
    stub: JobServiceStub, jobs: int, probe: Iterator[float]
) -> tuple[list[float], list[float]]:
    """Return the seconds of each submit, and of fsyncs between them."""
    spec, submits, probes = spec_to_proto(document()), [], []
    for number in range(jobs):
        request = pb.CreateJobRequest(spec=spec, request_id=str(uuid.uuid4()))
        submits.append(timed(lambda: stub.CreateJob(request)))  # noqa: B023 (called at once)
        if number % PROBE_EVERY == 0:
            probes.append(next(probe))
    return submits, probes


def _pages(stub: JobServiceStub) -> Iterator[float]:
    """Yield the seconds of each page after the first."""
    token = stub.ListJobs(pb.ListJobsRequest()).next_page_token
    while token:
        start = time.perf_counter()
        token = stub.ListJobs(pb.ListJobsRequest(page_token=token)).next_page_token
        yield time.perf_counter() - start


def _jobs(stub: JobServiceStub) -> Iterator[list[str]]:
    token = ""
    while True:
        page = stub.ListJobs(pb.ListJobsRequest(page_size=1000, page_token=token))
        yield [job.name for job in page.jobs]
        token = page.next_page_token
        if not token:
            return


def watching(watchers: int, steps: int) -> None:
    """Let ``watchers`` streams follow one job at two reports a second."""
    processes = 4
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        server = stack.enter_context(Worker("server", Path(place) / "state"))
        address, job = server.read()["address"], server.ask("run")["job"]
        clients = [
            stack.enter_context(Worker("watchers", address, job, watchers // processes, steps))
            for _ in range(processes)
        ]
        for client in clients:
            client.read()
        before = psutil.Process(server.pid).cpu_times()
        start = time.perf_counter()
        server.ask(f"steps {steps} 2")
        late = [value for client in clients for value in client.read()["late"]]
        elapsed = time.perf_counter() - start
        after = psutil.Process(server.pid).cpu_times()
        memory = psutil.Process(server.pid).memory_info().rss
    used = after.user + after.system - before.user - before.system
    print(f"| {watchers:,} watchers, 2 reports a second, ms | median | p99 | largest |")
    print(f"|---|---|---|---|\n| from the report to its watcher | {milliseconds(late)} |\n")
    print(
        f"{len(late):,} deliveries; the service took {100 * used / elapsed:.0f} % of a core, "
        f"{memory >> 20} MiB\n",
        flush=True,
    )


def main(parts: list[str], *, quick: bool) -> None:
    """Print the tables."""
    known = {
        "queue": lambda: queue(100 if quick else 10_000),
        "watching": lambda: watching(20 if quick else 1_000, 4 if quick else 60),
    }
    for part in parts or known:
        known[part]()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="queue, watching")
    parser.add_argument("--quick", action="store_true", help="small, to see that it works")
    given = parser.parse_args()
    main(given.parts, quick=given.quick)
