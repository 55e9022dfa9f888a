"""A version is one step, never a mixture: parameters that carry a checksum of themselves.

Rank 0 is played by this process, through the real reporter, link and service.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dbp.client.client import Client
from dbp.client.parameter_set import ParameterSet
from dbp.job.snapshot import manifest_of
from dbp.job.spec.resolve import resolve
from dbp.job.state import RunOutcome
from dbp.link.reporter import Reporter
from dbp.train.report.sink import ParameterSnapshot, Started
from tests.cli.setups import Server
from tests.deadline import DEADLINE
from tests.service.setups import document

SIZE = 20_000  # values besides the checksum


def write(vector: np.ndarray, step: int) -> None:
    """All values of a step, then the step and the checksum of everything before."""
    rng = np.random.default_rng(step)
    vector[:SIZE] = rng.integers(-1_000, 1_000, SIZE)
    vector[SIZE] = step
    checksum = zlib.crc32(vector[: SIZE + 1].tobytes())
    vector[SIZE + 1 :] = [checksum >> 16, checksum & 0xFFFF]


def check(found: ParameterSet) -> int:
    """The step of a version whose checksum is right."""
    whole = np.concatenate([found["0.weight"].ravel(), found["0.bias"]])
    high, low = whole[SIZE + 1 :]
    assert zlib.crc32(whole[: SIZE + 1].tobytes()) == int(high) << 16 | int(low)
    assert whole[SIZE] == found.version.step == int(found.metadata["dbp.step"])
    assert int(found.metadata["dbp.version"]) == found.version.version
    return found.version.step


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "state") as server:
        yield server


@pytest.mark.parametrize(
    "publications",
    [300, pytest.param(10_000, marks=[pytest.mark.full, pytest.mark.timeout(900)])],
)
def test_no_version_is_ever_a_mixture_of_steps(server: Server, publications: int) -> None:
    spec = document(publish={"every_steps": 1, "keep": 8})
    reporter = Reporter.join(server.address, resolve(spec).document, 1)
    reporter.started(Started(1, 10**9, 1.0, 1, 1, SIZE + 3))
    vector = np.zeros(SIZE + 3, np.float32)
    manifest = {"0.weight": (SIZE // 100, 100), "0.bias": (3,)}
    seen: set[int] = set()
    failures: list[BaseException] = []
    ended = threading.Event()

    def read() -> None:
        try:
            with Client(server.address) as client:
                job, newest = client.job(reporter.job), 0
                while not ended.is_set():
                    found = job.parameters(newer_than=newest, wait=0.5 if newest else 10.0)
                    if found is not None:
                        newest = found.version.version
                        seen.add(check(found))
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read, daemon=True) for _ in range(3)]
    for reader in readers:
        reader.start()
    taken = step = 0
    while taken < publications and not failures:
        step += 1
        reporter.poll()
        write(vector, step)
        metadata = {"dbp.step": str(step)}
        if reporter.snapshot(
            ParameterSnapshot(step, 1, vector, manifest_of(manifest, "F32", metadata))
        ):
            taken += 1
        else:
            time.sleep(0.0005)
        vector[:] = -step  # what training does next must not be seen
    ended.set()
    for reader in readers:
        reader.join()
    reporter.finished(RunOutcome("succeeded", "steps", step, 1))
    reporter.close(DEADLINE)

    assert not failures, failures
    assert len(seen) > publications // 20
    with Client(server.address) as client:
        versions = list(client.job(reporter.job).versions())
    assert len(versions) == publications
    assert [entry.version.version for entry in versions] == list(range(publications, 0, -1))
