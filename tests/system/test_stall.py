"""Processes of a run are stopped or loop for ever: the job says so, and ends or continues."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.numpy import load_file

from dbp.client.client import Client
from dbp.client.job import JobHandle
from dbp.job.failure import ConditionKind, Failure, FailureReason
from dbp.job.state import State
from tests.cli.setups import Server, output, until, write_spec
from tests.deadline import DEADLINE

STALL_SECONDS = 3
STEPS = 3_000
ENDLESS = 10**9

# A layer that returns its input, until a rank finds the file "loop-RANK": it removes the file
# and never returns.
LAYER = """
import os
from dataclasses import dataclass
from typing import final
from dbp.launching import detect
from dbp.plugin import Elementwise, option

def loop_for_ever():
    while True:
        pass

@final
@dataclass(frozen=True)
class Looping(Elementwise):
    folder: str = option("", doc="folder with the file")

    def output_range(self, input_range):
        return input_range

    def forward(self, parameters, x, workspace):
        place = detect(os.environ)
        try:
            os.unlink(os.path.join(self.folder, f"loop-{place.rank if place else 0}"))
        except FileNotFoundError:
            return x, lambda dy, gradients: dy
        loop_for_ever()
"""


def make_site(folder: Path) -> Path:
    """A folder with the installed package of the layer."""
    site = folder / "site"
    information = site / "looping-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "looping.py").write_text(LAYER)
    metadata = "Metadata-Version: 2.1\nName: looping\nVersion: 1.0\n"
    (information / "METADATA").write_text(metadata)
    (information / "entry_points.txt").write_text("[dbp.layers]\nlooping = looping:Looping\n")
    return site


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("PYTHONPATH", str(make_site(tmp_path)))
    with Server(tmp_path / "state", "--pass-env", "PYTHONPATH") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address, patience=DEADLINE) as client:
        yield client


def write_job(path: Path, *, steps: int) -> Path:
    """A job that counts as stalled after a few seconds; its layer may loop."""
    write_spec(path, steps=steps)
    last = '  { kind = "dense", units = 10'
    looping = f'  {{ kind = "looping", folder = "{path.parent}" }},\n'
    text = path.read_text().replace(last, looping + last)
    retry = f"attempts = 3\nbackoff_seconds = 0.0\nstall_seconds = {STALL_SECONDS}"
    path.write_text(f"{text}[checkpoint]\nevery_steps = 100\n[retry]\n{retry}\n")
    return path


def submit(
    server: Server, client: Client, folder: Path, *, workers: int = 2, steps: int = STEPS
) -> JobHandle:
    path = write_job(folder / "job.toml", steps=steps)
    job = output("submit", str(path), "--workers", str(workers), service=server.address)
    return client.job(job.strip())


def digest(tensors: Mapping[str, Any]) -> str:
    return hashlib.sha256(
        b"".join(tensors[name].tobytes() for name in sorted(tensors))
    ).hexdigest()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the job's parameters after a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(make_site(folder)))
        spec = write_job(folder / "job.toml", steps=STEPS)
        output("train", str(spec), "--run", str(folder / "run"))
    return digest(load_file(folder / "run" / "parameters.safetensors"))


@dataclass
class Watcher:
    """The updates that a watcher of a job received."""

    stalled: list[str] = field(default_factory=list)  # messages of the condition, in order
    failures: list[Failure] = field(
        default_factory=list
    )  # of attempts that were launched again


@contextmanager
def watching(job: JobHandle) -> Iterator[Watcher]:
    seen = Watcher()

    def watch() -> None:
        for update in job.watch():
            if update.kind == "requeued" and update.job and update.job.previous_failure:
                seen.failures.append(update.job.previous_failure)
            for condition in update.job.conditions if update.job else ():
                assert condition.kind is ConditionKind.STALLED
                if condition.message not in seen.stalled:
                    seen.stalled.append(condition.message)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield seen
    thread.join(timeout=DEADLINE)
    assert not thread.is_alive()


def at_step(job: JobHandle, least: int) -> bool:
    progress = job.get().progress
    return progress is not None and progress.step >= least


def processes(server: Server) -> dict[str, psutil.Process]:
    """The supervisor, mpirun (if any) and the ranks of the running job, by name."""
    found: dict[str, psutil.Process] = {}
    for process in server.processes():
        words = process.cmdline()
        if words[1:3] == ["-m", "dbp.launch.supervisor"]:
            found["supervisor"] = process
        elif words[1:3] == ["-m", "dbp.worker"]:
            variables = process.environ()
            number = variables.get("OMPI_COMM_WORLD_RANK", variables.get("PMI_RANK", "0"))
            found[f"rank {number}"] = process
        elif "dbp.worker" in words:
            found["mpirun"] = process
    return found


def succeeded_again(job: JobHandle, seen: Watcher, undisturbed: str) -> Failure:
    """Wait for the end of the second attempt; return the failure of the first."""
    ended = job.wait(timeout=2 * DEADLINE)
    assert ended.state is State.SUCCEEDED, ended.failure
    assert ended.attempt == 2
    parameters = job.parameters()
    assert parameters is not None
    assert digest(parameters) == undisturbed
    until(lambda: seen.failures)
    (failure,) = seen.failures
    assert failure.reason is FailureReason.STALLED
    assert failure.attempt == 1
    assert failure.host == os.uname().nodename
    assert failure.step >= failure.checkpoint_step >= 100
    return failure


def stop(server: Server, name: str) -> str:
    """Stop a process of the running job; return the beginning of the message on it."""
    stopped = processes(server)[name]
    stopped.suspend()
    return f"{name} (process {stopped.pid}) on {os.uname().nodename} is stopped (state T)"


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("workers", "rank"), [(1, 0), pytest.param(2, 0, marks=pytest.mark.full), (2, 1)]
)
def test_a_stopped_rank_is_named_and_the_job_resumes(
    server: Server,
    client: Client,
    tmp_path: Path,
    undisturbed: str,
    workers: int,
    rank: int,
) -> None:
    job = submit(server, client, tmp_path, workers=workers)
    with watching(job) as seen:
        until(lambda: at_step(job, 150))
        expected = stop(server, f"rank {rank}")
        failure = succeeded_again(job, seen, undisturbed)

    assert seen.stalled[0].startswith(expected), seen.stalled
    assert failure.message.startswith(expected)
    assert failure.rank == rank
    until(lambda: not server.processes())


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["mpirun", "supervisor"])
def test_a_stopped_mpirun_or_supervisor_is_named_though_the_ranks_train(
    server: Server, client: Client, tmp_path: Path, name: str
) -> None:
    job = submit(server, client, tmp_path, steps=ENDLESS)
    with watching(job) as seen:
        until(lambda: at_step(job, 150))
        expected = stop(server, name)
        until(lambda: seen.failures)
        until(lambda: job.get().attempt == 2 and at_step(job, seen.failures[0].step + 50))
        job.cancel()

    (failure,) = seen.failures
    assert seen.stalled[0].startswith(expected), seen.stalled
    assert failure.reason is FailureReason.STALLED
    assert failure.message.startswith(expected)
    assert failure.rank is None
    assert failure.checkpoint_step >= 100
    until(lambda: not server.processes())


@pytest.mark.timeout(400)
@pytest.mark.parametrize("looping", [pytest.param(0, marks=pytest.mark.full), 1])
def test_an_endless_loop_is_reported_with_its_stack(
    server: Server, client: Client, tmp_path: Path, undisturbed: str, looping: int
) -> None:
    job = submit(server, client, tmp_path)
    with watching(job) as seen:
        until(lambda: at_step(job, 150))
        (tmp_path / f"loop-{looping}").touch()
        failure = succeeded_again(job, seen, undisturbed)

    assert failure.rank == looping
    assert f"rank {looping} (process " in seen.stalled[-1]
    assert "phase forward/backward" in failure.message
    assert "in loop_for_ever" in failure.message
    files = {p.name: p.read_text() for p in server.state.glob("jobs/*/attempt-1/stacks-*.txt")}
    assert "in loop_for_ever" in files[f"stacks-{looping}.txt"]
    assert "in barrier" in files[f"stacks-{1 - looping}.txt"], "the other rank waits"
    until(lambda: not server.processes())


@pytest.mark.timeout(400)
@pytest.mark.parametrize("way", ["overlapped", "sharded", "batch_norm"])
def test_the_looping_rank_is_named_in_every_kind_of_exchange(
    server: Server, client: Client, tmp_path: Path, way: str
) -> None:
    """Batch normalization exchanges statistics within the forward pass."""
    path = write_job(tmp_path / "job.toml", steps=ENDLESS)
    text = path.read_text().replace("attempts = 3", "attempts = 0")
    if way == "batch_norm":
        dense = '  { kind = "dense", units = 16'
        text = text.replace(dense, '  { kind = "batch_norm" },\n' + dense)
    else:
        text = text.replace("[publish]", f'exchange = "{way}"\n[publish]')
    path.write_text(text)
    job = client.job(output("submit", str(path), "-n", "2", service=server.address).strip())
    until(lambda: at_step(job, 20))

    (tmp_path / "loop-1").touch()
    ended = job.wait(timeout=2 * DEADLINE)

    assert ended.failure is not None
    assert ended.failure.reason is FailureReason.STALLED
    assert ended.failure.rank == 1
    assert "in loop_for_ever" in ended.failure.message


@pytest.mark.timeout(400)
def test_a_rank_that_is_stopped_while_it_starts_is_named(
    server: Server, client: Client, tmp_path: Path, undisturbed: str
) -> None:
    job = submit(server, client, tmp_path)
    with watching(job) as seen:
        until(lambda: "rank 1" in processes(server))
        processes(server)["rank 1"].suspend()

        ended = job.wait(timeout=2 * DEADLINE)

    assert ended.state is State.SUCCEEDED
    assert [failure.reason for failure in seen.failures] == [FailureReason.STALLED]
    assert seen.failures[0].rank == 1
    parameters = job.parameters()
    assert parameters is not None
    assert digest(parameters) == undisturbed


def test_a_process_that_continues_in_time_is_no_failure(
    server: Server, client: Client, tmp_path: Path
) -> None:
    job = submit(server, client, tmp_path, steps=1_500)
    with watching(job) as seen:
        until(lambda: at_step(job, 20))
        rank = processes(server)["rank 1"]

        rank.suspend()
        until(lambda: job.get().conditions != ())
        rank.send_signal(signal.SIGCONT)
        until(lambda: job.get().conditions == ())

        ended = job.wait(timeout=DEADLINE)

    assert ended.state is State.SUCCEEDED
    assert [message.partition(" (")[0] for message in seen.stalled] == ["rank 1"]


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_run_beside_many_busy_processes_never_counts_as_stalled(
    server: Server, client: Client, tmp_path: Path
) -> None:
    """Three minutes at a fraction of the speed, with a limit of three seconds."""
    job = submit(server, client, tmp_path, steps=ENDLESS)
    with watching(job) as seen:
        until(lambda: at_step(job, 20))
        loops = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(20)
        ]
        try:
            end = time.monotonic() + 180.0
            while time.monotonic() < end:
                step = job.get().progress.step  # type: ignore[union-attr]
                until(lambda step=step: at_step(job, step + 1))  # type: ignore[misc]
                assert job.get().conditions == ()
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()
        job.cancel()

    assert seen.stalled == []
    assert job.get().state is State.CANCELLED
