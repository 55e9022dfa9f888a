"""`dbp serve` on a disk that is full for a while: nothing that was trained is lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dbp.client.client import Client
from dbp.client.job import JobHandle
from dbp.errors import DiskFull
from dbp.job.failure import ConditionKind
from dbp.job.state import State
from tests.cli.setups import Server, until, write_spec
from tests.deadline import DEADLINE
from tests.small_disk import SmallDisk, small_disk
from tests.system.test_restart import at_step, final, held

STEPS = 600
# Its parameters take 1.2 MB, more than a restart of the service frees.
UNITS = 4_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "state", "64m") as mounted:
        yield mounted


@pytest.fixture
def server(disk: SmallDisk) -> Iterator[Server]:
    with Server(disk.path) as server:
        yield server
        disk.free()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address, patience=DEADLINE) as client:
        yield client


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = write_spec(tmp_path / "job.toml", steps=STEPS)
    path.write_text(path.read_text().replace("units = 16", f"units = {UNITS}"))
    assert str(UNITS) in path.read_text()
    return path


def disk_full(job: JobHandle) -> str:
    """The message of the job's condition DISK_FULL; "" without it."""
    found = [c.message for c in job.get().conditions if c.kind is ConditionKind.DISK_FULL]
    return found[0] if found else ""


def waits_at_its_end(job: JobHandle) -> bool:
    return "parameters.safetensors cannot be written" in disk_full(job)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_ends_on_a_full_disk_waits_for_space(
    server: Server, client: Client, disk: SmallDisk, spec: Path, workers: int
) -> None:
    undisturbed = client.submit(spec, workers=workers)
    assert undisturbed.wait().state is State.SUCCEEDED
    job = client.submit(spec, workers=workers)
    with ExitStack() as full:
        with held(server, job):
            full.enter_context(disk.kept_full())
        until(lambda: waits_at_its_end(job))
        assert job.get().state is State.RUNNING
        with pytest.raises(DiskFull, match="disk is full"):
            client.submit(spec)
        assert [found.id for found in client.jobs()] == [job.id, undisturbed.id]
        assert undisturbed.parameters() is not None
        server.stop(signal.SIGKILL)
        server.start()
        until(lambda: waits_at_its_end(job))

    ended = job.wait()
    assert (ended.state, ended.failure, ended.conditions) == (State.SUCCEEDED, None, ())
    assert final(job) == final(undisturbed)
    assert final(job)[::2] == (STEPS, True)


@pytest.mark.timeout(600)
def test_a_job_is_cancelled_on_a_full_disk_and_stays_so(
    server: Server, client: Client, disk: SmallDisk, spec: Path
) -> None:
    job = client.submit(spec)
    queued = client.submit(spec, workers=2)
    with ExitStack() as full:
        with held(server, job):
            full.enter_context(disk.kept_full())
        until(lambda: waits_at_its_end(job))
        assert queued.cancel().state is State.CANCELLED
        assert job.cancel().state in (State.CANCELLING, State.CANCELLED)
        server.stop(signal.SIGKILL)
        server.start()
        assert queued.get().state is State.CANCELLED
        ended = job.wait()

    assert ended.state is State.CANCELLED
    assert ended.failure is None or ended.failure.reason in ("NOT_WRITTEN", "FORCED")


@pytest.mark.timeout(600)
def test_checkpoints_that_do_not_fit_cost_one_line_and_not_the_run(
    server: Server, client: Client, disk: SmallDisk, spec: Path
) -> None:
    spec.write_text(spec.read_text() + "\n[checkpoint]\nevery_steps = 20\nkeep = 1\n")
    undisturbed = client.submit(spec)
    assert undisturbed.wait().state is State.SUCCEEDED
    job = client.submit(spec)
    with ExitStack() as full:
        with held(server, job, least=2):
            full.enter_context(disk.kept_full())
        until(lambda: "no checkpoints can be written" in disk_full(job))
        (folder,) = (disk.path / "jobs" / job.id).rglob("checkpoints")
        kept = [path.name for path in folder.glob("step-*")]
        progress = job.get().progress
        assert progress is not None
        until(lambda: at_step(job, progress.step + 45) or waits_at_its_end(job))
        assert [path.name for path in folder.glob("step-*")] == kept != []

    ended = job.wait()
    assert (ended.state, ended.failure, ended.conditions) == (State.SUCCEEDED, None, ())
    assert final(job) == final(undisturbed)
    lines = list(job.logs())
    assert sum("no checkpoint could be written" in line for line in lines) <= 1
