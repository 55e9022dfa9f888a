"""Readers of live parameters while the service is killed, and while one of them is stopped."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from dbp.client.async_client import AsyncClient
from dbp.client.client import Client
from dbp.client.parameter_set import ParameterSet
from dbp.errors import InvalidInput, Unavailable
from dbp.job.snapshot import manifest_of
from dbp.job.spec.resolve import resolve
from dbp.job.state import RunOutcome
from dbp.link.reporter import Reporter
from dbp.train.report.sink import ParameterSnapshot, Started
from tests.cli.setups import Server, until, write_spec
from tests.deadline import DEADLINE
from tests.service.setups import document

MIB = 1 << 20


@pytest.fixture
def reporter(server: Server) -> Iterator[Reporter]:
    """Rank 0 of a run that joined by hand; it ends with the test."""
    spec = document(publish={"every_steps": 1, "keep": 2})
    reporter = Reporter.join(server.address, resolve(spec).document, 1)
    reporter.started(Started(1, 10**9, 1.0, 1, 1, 1))
    yield reporter
    reporter.finished(RunOutcome("succeeded", "steps", 13, 1))
    reporter.close(DEADLINE)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "state") as server:
        yield server


def check(found: ParameterSet, digests: dict[int, str]) -> None:
    """The bytes are the version's, and every version has the same digest for all readers."""
    version = found.version
    assert hashlib.sha256(found.content).hexdigest() == version.digest
    assert found.metadata["dbp.version"] == str(version.version)
    assert found.metadata["dbp.step"] == str(version.step)
    assert digests.setdefault(version.version, version.digest) == version.digest
    before = digests.get(version.version - 1)
    assert before in (None, found.metadata["dbp.previous_digest"])


class Readers:
    """A plain reader and an asynchronous mirror on threads, each checking all that it gets."""

    def __init__(self, address: str, job_id: str) -> None:
        self.digests: dict[int, str] = {}
        self.failures: list[BaseException] = []
        self.reads = [0, 0]
        self.ended = threading.Event()
        self._address = address
        self._job_id = job_id
        self._threads = [
            threading.Thread(target=self._guarded, args=(role,), daemon=True)
            for role in (self._poll, lambda: asyncio.run(self._mirror()))
        ]
        for thread in self._threads:
            thread.start()

    def read_on(self) -> None:
        """Wait until both have got another version, or one has failed."""
        before = list(self.reads)
        until(lambda: all(map(int.__gt__, self.reads, before)) or self.failures)

    def join(self) -> None:
        """The job has ended: so do they."""
        self.ended.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, role: Callable[[], None]) -> None:
        try:
            role()
        except BaseException as error:
            self.failures.append(error)

    def _poll(self) -> None:
        with Client(self._address, patience=DEADLINE) as client:
            job, newest = client.job(self._job_id), 0
            while not self.ended.is_set():
                try:
                    found = job.parameters(newer_than=newest, wait=10.0)
                except Unavailable:
                    continue  # it was away when it was asked
                if found is not None:
                    check(found, self.digests)
                    newest = found.version.version
                    self.reads[0] += 1

    async def _mirror(self) -> None:
        async with AsyncClient(self._address) as client:
            job = await client.job(self._job_id)
            async with job.mirror() as mirror:
                while not mirror.ended:
                    try:
                        found = await mirror.wait(mirror.version, timeout=1.0)
                    except (TimeoutError, InvalidInput):  # nothing new, for now or for good
                        continue
                    check(found, self.digests)
                    self.reads[1] += 1


@pytest.mark.parametrize("kills", [2, pytest.param(4, marks=pytest.mark.full)])
def test_no_wrong_byte_while_the_service_is_killed_again_and_again(
    server: Server, tmp_path: Path, kills: int
) -> None:
    spec = write_spec(tmp_path / "endless.toml", steps=10**9)
    with Client(server.address, patience=DEADLINE) as client:
        job = client.submit(spec, workers=2)
        job.parameters(wait=DEADLINE)
        readers = Readers(server.address, job.id)
        with job.mirror() as mirror:
            for _ in range(kills):
                readers.read_on()
                server.stop(signal.SIGKILL)
                time.sleep(0.2)  # for calls while it is away
                server.start()
            readers.read_on()
            seen = mirror.version
            until(lambda: mirror.version > seen)
            job.cancel()
            done = job.wait()
            readers.join()
            until(lambda: mirror.ended)
            newest = mirror.get()

    assert not readers.failures, readers.failures
    assert newest is not None
    assert newest.version.final
    assert done.latest_parameters == newest.version
    check(newest, readers.digests)


READER = """
import hashlib, sys
from dbp.client.client import Client
with Client(sys.argv[1]) as client:
    job = client.job(sys.argv[2])
    print("ready", flush=True)
    sys.stdin.readline()
    def slowly(received, total):
        if received == 1 << 20:
            print("begun", flush=True)
            sys.stdin.readline()
    found = job.parameters(version=1, on_bytes=slowly)
    print(hashlib.sha256(found.content).hexdigest(), found.version.digest, flush=True)
"""


def test_a_stopped_reader_delays_no_other(server: Server, reporter: Reporter) -> None:
    vector = np.random.default_rng(0).standard_normal(15 * MIB, np.float32)
    manifest = manifest_of({"0.weight": (15, MIB)}, "F32", {})
    service = psutil.Process(server.pid)

    def publish(step: int) -> float:
        began = time.monotonic()
        while not reporter.snapshot(ParameterSnapshot(step, 1, vector, manifest)):
            reporter.poll()
            time.sleep(0.005)
        return time.monotonic() - began

    with Client(server.address) as client:
        publish(1)
        job = client.job(reporter.job)
        first = job.parameters(wait=DEADLINE)
        assert first is not None
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, server.address, reporter.job],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        reader.stdin.write("go\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "begun\n"
        os.kill(reader.pid, signal.SIGSTOP)
        sizes, newest = [], 1
        for step in range(2, 14):
            publish(step)
            found = job.parameters(newer_than=newest, wait=DEADLINE)
            assert found is not None, "the others are served"
            newest = found.version.version
            sizes.append(service.memory_info().rss / found.version.size_bytes)
        os.kill(reader.pid, signal.SIGCONT)
        said, _ = reader.communicate("go\n", timeout=DEADLINE)

        got, expected = said.split()
        assert got == expected == first.version.digest
        assert max(sizes[4:]) < sizes[3] + 3, f"memory, in versions: {sizes}"
