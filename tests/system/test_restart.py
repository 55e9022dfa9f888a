"""The service is killed and comes back; jobs, their processes and their bits do not notice."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from dbp.client.client import Client
from dbp.client.job import JobHandle
from dbp.client.transport.streams import JobUpdate
from dbp.errors import Unavailable
from dbp.job.state import State
from dbp.jobs.metric_points import MetricPoint
from dbp.storage.metrics_file import open_metrics
from tests.cli.setups import Server, until, write_spec
from tests.deadline import DEADLINE
from tests.jobs.stored_points import stored_points

# Ranks are frozen while the service is killed and while it starts.
STEPS = 1_500


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "state") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address, patience=DEADLINE) as client:
        yield client


def ranks(server: Server) -> dict[int, float]:
    """Process id and start time of each rank of the running job."""
    return {
        process.pid: process.create_time()
        for process in server.processes()
        if process.cmdline()[1:3] == ["-m", "dbp.worker"]
    }


def at_step(job: JobHandle, least: int) -> bool:
    progress = job.get().progress
    return progress is not None and progress.step >= least


def final(job: JobHandle) -> tuple[int, str, bool]:
    """Step, digest of the tensors' bytes, and whether these are the last parameters."""
    found = job.parameters()
    assert found is not None
    content = b"".join(found[name].tobytes() for name in sorted(found.tensors))
    return found.version.step, hashlib.sha256(content).hexdigest(), found.version.final


@contextmanager
def frozen(pids: Iterable[int]) -> Iterator[None]:
    """Processes, those that have not ended, that stand still, however long this takes."""
    send(signal.SIGSTOP, pids)
    try:
        yield
    finally:
        send(signal.SIGCONT, pids)


def send(number: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def reached_state(job: JobHandle) -> State | None:
    """The state of a job; None while the client has not found the restarted service yet."""
    try:
        return job.get().state
    except Unavailable:
        return None


def epochs(server: Server, job: JobHandle) -> int:
    """How many epochs a job has trained, as its files say: a busy service learns it late."""
    found = (server.state / "jobs" / job.id).rglob("metrics.jsonl")
    return sum(metrics.read_bytes().count(b"\n") for metrics in found)


@contextmanager
def held(server: Server, job: JobHandle, least: int = 1) -> Iterator[dict[int, float]]:
    """The ranks of a job after its first epochs, which stand still until the end of the block.

    Without this a short run can end before a busy service has reported its first step.
    """
    until(lambda: epochs(server, job) >= least)
    found = ranks(server)
    with frozen(found):
        until(lambda: reached_state(job) is State.RUNNING)
        yield found


@pytest.mark.timeout(600)  # 3,000 steps of two ranks, which wait for each other
def test_a_job_keeps_training_while_its_service_is_killed_twice(
    server: Server, client: Client, tmp_path: Path
) -> None:
    spec = write_spec(tmp_path / "job.toml", steps=STEPS)
    undisturbed = client.submit(spec, workers=2)
    assert undisturbed.wait().state is State.SUCCEEDED
    disturbed = client.submit(spec, workers=2)
    waiting = client.submit(write_spec(tmp_path / "short.toml", steps=50), workers=2)
    updates: list[JobUpdate] = []
    watching = threading.Thread(target=lambda: updates.extend(disturbed.watch()), daemon=True)
    watching.start()
    for _ in range(2):
        with held(server, disturbed) as before:
            server.stop(signal.SIGKILL)
        assert len(before) == 2
        trained = epochs(server, disturbed)
        until(lambda trained=trained: epochs(server, disturbed) > trained)  # type: ignore[misc]
        with frozen(before):
            server.start()
            until(lambda: reached_state(disturbed) is State.RUNNING)
            assert ranks(server) == before

    assert disturbed.wait().state is State.SUCCEEDED
    assert final(disturbed) == final(undisturbed)
    assert final(disturbed)[::2] == (STEPS, True)
    assert waiting.wait().state is State.SUCCEEDED
    ids = [waiting.id, disturbed.id, undisturbed.id]
    assert [job.id for job in client.jobs()] == ids
    # The watcher saw each change once, in order.
    watching.join(timeout=DEADLINE)
    assert not watching.is_alive()
    states = [
        update.job.state for update in updates if update.job and update.kind != "snapshot"
    ]
    changes = [state for i, state in enumerate(states) if i == 0 or states[i - 1] is not state]
    order = [State.QUEUED, State.STARTING, State.RUNNING, State.SUCCEEDED]
    assert changes == [state for state in order if state in changes]
    assert changes[-1] is State.SUCCEEDED
    kinds = [update.kind for update in updates if update.kind in ("running", "succeeded")]
    assert len(kinds) == len(set(kinds))
    versions = [
        update.job.latest_parameters.version
        for update in updates
        if update.job and update.kind == "parameters_published" and update.job.latest_parameters
    ]
    assert versions == list(range(versions[0], versions[0] + len(versions)))
    server.stop(signal.SIGTERM)
    ours, theirs = history(server, disturbed), history(server, undisturbed)
    assert covered(ours) == covered(theirs) == list(range(1, STEPS + 1))
    assert sum_of_losses(ours) == pytest.approx(sum_of_losses(theirs), rel=1e-9)


def history(server: Server, job: JobHandle) -> list[MetricPoint]:
    """The losses of a job in the metrics history of a service that has stopped."""
    with closing(open_metrics(server.state / "metrics.sqlite")) as connection:
        return stored_points(connection, job.id)


def covered(points: list[MetricPoint]) -> list[int]:
    return [step for point in points for step in range(point.first_step, point.step + 1)]


def sum_of_losses(points: list[MetricPoint]) -> float:
    assert not any(point.retaken for point in points)
    return sum(point.mean * point.counted for point in points)


def test_a_restarted_service_records_a_job_that_ended_meanwhile(
    server: Server, client: Client, tmp_path: Path
) -> None:
    job = client.submit(write_spec(tmp_path / "job.toml", steps=1000), workers=2)
    until(lambda: at_step(job, 1))

    server.stop(signal.SIGKILL)
    until(lambda: not server.processes())
    server.start()

    ended = job.wait()
    assert ended.state is State.SUCCEEDED
    assert final(job)[::2] == (1000, True)
    assert list(job.logs())


def test_jobs_continue_after_their_service_is_stopped(
    server: Server, client: Client, tmp_path: Path
) -> None:
    job = client.submit(write_spec(tmp_path / "job.toml", steps=10**9), workers=2)
    until(lambda: at_step(job, 1))
    before = ranks(server)

    server.stop(signal.SIGTERM)
    assert ranks(server) == before
    server.start()

    assert job.cancel().state in (State.CANCELLING, State.CANCELLED)
    assert job.wait().state is State.CANCELLED
    step, _, last = final(job)
    assert step > 0
    assert last
    until(lambda: not server.processes())
