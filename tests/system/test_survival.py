"""Processes of a job are killed at random steps; it ends with the bits of an undisturbed run.

Every kill is of a real process under `dbp serve`; the steps are drawn with a fixed seed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from dbp.client.client import Client
from dbp.client.job import JobHandle
from dbp.client.transport.streams import JobUpdate
from dbp.job.state import State
from tests.cli.setups import Server, output, until
from tests.deadline import DEADLINE
from tests.system.test_restart import frozen, ranks

pytestmark = pytest.mark.timeout(400)

STEPS, EVERY = 1_200, 40
ALONE = 5 * STEPS  # of one rank, which is fast: it must not end before it is killed

SPEC = """
name = "survivor"
seed = 5
[data]
train = {{ kind = "digits", part = "train" }}
validation = {{ fraction = 0.1 }}
scale = "unit"
[model]
layers = [
  {{ kind = "dense", units = 16, activation = "relu" }},
  {{ kind = "dense", units = 10 }},
]
loss = "softmax_cross_entropy"
[optimizer]
kind = "{optimizer}"
learning_rate = 0.01
[train]
batch_size = 50
steps = {steps}
[checkpoint]
every_steps = {every}
[publish]
every_seconds = 0.05
[retry]
attempts = {attempts}
backoff_seconds = {backoff}
"""


def write(
    path: Path,
    optimizer: str = "adam",
    steps: int = STEPS,
    every: int = EVERY,
    attempts: int = 3,
    backoff: float = 0.1,
) -> Path:
    path.write_text(
        SPEC.format(
            optimizer=optimizer, steps=steps, every=every, attempts=attempts, backoff=backoff
        )
    )
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("service") / "state") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address, patience=DEADLINE) as client:
        yield client


def final(job: JobHandle) -> tuple[int, str, bool]:
    """Step, digest of the tensors' bytes, and whether these are the last parameters."""
    found = job.parameters()
    assert found is not None
    content = b"".join(found[name].tobytes() for name in sorted(found.tensors))
    return found.version.step, hashlib.sha256(content).hexdigest(), found.version.final


@functools.cache
def undisturbed(server: Server, optimizer: str, steps: int = STEPS) -> tuple[int, str, bool]:
    """The end of a run that nothing disturbs; on one rank, whose bits are those of two."""
    spec = write(server.state.parent / f"{optimizer}{steps}.toml", optimizer, steps)
    with Client(server.address) as client:
        job = client.submit(spec)
        assert job.wait().state is State.SUCCEEDED
        return final(job)


def supervisor(server: Server, job: JobHandle) -> psutil.Process:
    folder = server.state / "jobs" / job.id / f"attempt-{job.get().attempt}"
    return psutil.Process(json.loads((folder / "supervisor.json").read_text())["pid"])


def command(server: Server, job: JobHandle) -> psutil.Process:
    """mpirun, or the only rank."""
    return next(iter(supervisor(server, job).children()))


def rank(server: Server, job: JobHandle, number: int) -> psutil.Process:
    ranks = [
        process
        for process in supervisor(server, job).children(recursive=True)
        if process.cmdline()[1:3] == ["-m", "dbp.worker"]
    ]
    return sorted(ranks, key=lambda process: process.pid)[number]


VICTIMS: dict[str, Callable[[Server, JobHandle], psutil.Process]] = {
    "supervisor": supervisor,
    "mpirun": command,
    "first rank": lambda server, job: rank(server, job, 0),
    "last rank": lambda server, job: rank(server, job, -1),
}
REASONS = {
    "supervisor": {"LOST_SUPERVISOR"},
    "mpirun": {"LAUNCHER_SIGNAL"},
    "first rank": {"RANK_SIGNAL"},
    "last rank": {"RANK_SIGNAL"},
}


def reached(job: JobHandle, step: int) -> bool:
    now = job.get()
    return now.progress is not None and now.state is State.RUNNING and now.progress.step >= step


@contextmanager
def held(server: Server, job: JobHandle, step: int, since: int = 0) -> Iterator[None]:
    """The ranks stand still in the block, after this step by their files, which grew ``since``.

    A busy service learns late how far they are: a short run could end first.
    """
    metrics = server.state / "jobs" / job.id / "run" / "metrics.jsonl"

    def trained() -> bool:
        if not metrics.exists() or metrics.stat().st_mtime_ns <= since:
            return False
        lines = metrics.read_bytes().split(b"\n")[:-1]
        return bool(lines) and json.loads(lines[-1])["step"] >= step

    until(trained)
    with frozen(ranks(server)):
        until(lambda: reached(job, 1))
        yield


@pytest.mark.parametrize(
    ("workers", "optimizer", "victim"),
    [
        (1, "adam", "first rank"),
        pytest.param(1, "sgd", "supervisor", marks=pytest.mark.full),
        (2, "adam", "mpirun"),
        (2, "sgd", "last rank"),
        pytest.param(2, "adam", "first rank", marks=pytest.mark.full),
        (2, "sgd", "supervisor"),
    ],
)
def test_a_killed_process_costs_no_bit_no_checkpoint_and_no_label(
    server: Server, client: Client, tmp_path: Path, workers: int, optimizer: str, victim: str
) -> None:
    draw = random.Random(f"{workers} {optimizer} {victim}")
    steps = ALONE if workers == 1 else STEPS
    job = client.submit(write(tmp_path / "job.toml", optimizer, steps), workers=workers)
    updates: list[JobUpdate] = []
    watching = threading.Thread(target=lambda: updates.extend(job.watch()), daemon=True)
    watching.start()

    failures, since = [], 0
    for attempt in (1, 2):
        step = draw.randrange(2 * EVERY, 8 * EVERY) + (attempt - 1) * 12 * EVERY
        with held(server, job, step, since):
            VICTIMS[victim](server, job).kill()
        until(lambda attempt=attempt: job.get().attempt > attempt)  # type: ignore[misc]
        failures.append(job.get().previous_failure)
        since = time.time_ns()
    done = job.wait()

    assert (done.state, done.attempt, done.failures) == (State.SUCCEEDED, 3, 0)
    assert final(job) == undisturbed(server, optimizer, steps)
    for number, failure in enumerate(failures, start=1):
        assert failure is not None
        assert failure.reason in REASONS[victim]
        assert (failure.attempt, failure.retry_helps) == (number, True)
        assert failure.checkpoint_step >= EVERY
        assert failure.checkpoint_step % EVERY == 0
        assert failure.step >= failure.checkpoint_step
    versions = list(job.versions())[::-1]
    chain = [entry.version.step for entry in versions]
    assert chain == sorted(chain), "steps fall only after a roll-back"
    assert [entry.version.version for entry in versions] == list(range(1, len(versions) + 1))
    moves, _ = job.labels()
    assert [move.label for move in moves] == ["best"]
    checkpoints = server.state / "jobs" / job.id / "run" / "checkpoints"
    assert (checkpoints / f"step-{steps:012d}").is_dir()
    watching.join(timeout=DEADLINE)
    kinds = [u.kind for u in updates if u.kind in ("started", "requeued", "succeeded")]
    assert kinds[-5:] == ["requeued", "started", "requeued", "started", "succeeded"]


def test_an_attempt_that_dies_while_the_service_is_away_is_followed_by_another(
    server: Server, tmp_path: Path
) -> None:
    expected = undisturbed(server, "adam")
    with Server(tmp_path / "state") as own, Client(own.address, patience=DEADLINE) as client:
        job = client.submit(write(tmp_path / "job.toml"), workers=2)
        with held(own, job, 5 * EVERY):
            victim = rank(own, job, 1)
            own.stop(signal.SIGKILL)
            victim.kill()
        own.start()

        done = job.wait()
        assert (done.state, done.attempt) == (State.SUCCEEDED, 2)
        assert final(job) == expected
        steps = [entry.version.step for entry in job.versions()][::-1]
        assert steps == sorted(steps)


def test_a_crash_loop_backs_off_and_ends_with_all_facts(
    server: Server, client: Client, tmp_path: Path
) -> None:
    spec = write(tmp_path / "job.toml", steps=10**9, every=10**9, attempts=3, backoff=0.4)
    job = client.submit(spec)
    starts = []
    for attempt in (1, 2, 3):
        until(lambda attempt=attempt: job.get().attempt == attempt and reached(job, 1))  # type: ignore[misc]
        starts.append(job.get().start_time)
        rank(server, job, 0).kill()
    done = job.wait()

    assert (done.state, done.attempt, done.failures) == (State.FAILED, 3, 3)
    failure = done.failure
    assert failure is not None
    assert (failure.reason, failure.attempt, failure.signal) == ("RANK_SIGNAL", 3, 9)
    assert failure.host
    assert failure.step >= 1
    assert (failure.checkpoint_step, failure.retry_helps) == (0, True)
    assert "3 attempts in a row ended without a new checkpoint" in failure.message
    first, second, third = map(float, map(str, starts))
    assert second - first >= 0.4
    assert third - second >= 0.8


def test_other_jobs_run_while_a_job_waits_for_its_next_attempt(
    server: Server, client: Client, tmp_path: Path
) -> None:
    spec = write(tmp_path / "job.toml", steps=10**9, backoff=60.0)
    waiting = client.submit(spec, workers=2)
    until(lambda: reached(waiting, 1))
    rank(server, waiting, 1).kill()
    until(lambda: waiting.get().state is State.QUEUED)

    other = client.submit(write(tmp_path / "other.toml", steps=50), workers=2)

    assert other.wait().state is State.SUCCEEDED
    assert waiting.get().waiting_reason.startswith("attempt 2 starts in")
    assert waiting.cancel().state is State.CANCELLED


# A layer that raises in the 9th forward pass of rank 1.
LAYER = """
import os
from dataclasses import dataclass
from typing import final
from dbp.launching import detect
from dbp.plugin import Elementwise

calls = 0

@final
@dataclass(frozen=True)
class Failing(Elementwise):
    def output_range(self, input_range):
        return input_range

    def forward(self, parameters, x, workspace):
        global calls
        calls += 1
        place = detect(os.environ)
        if calls == 9 and place is not None and place.rank == 1:
            raise ValueError("no luck")
        return x, lambda dy, gradients: dy
"""


def test_the_same_exception_at_the_same_step_ends_a_job_with_its_second_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    information = tmp_path / "site" / "failing-1.0.dist-info"
    information.mkdir(parents=True)
    (tmp_path / "site" / "failing.py").write_text(LAYER)
    metadata = "Metadata-Version: 2.1\nName: failing\nVersion: 1.0\n"
    (information / "METADATA").write_text(metadata)
    (information / "entry_points.txt").write_text("[dbp.layers]\nfailing = failing:Failing\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    spec = write(tmp_path / "job.toml", attempts=9)
    last = '  { kind = "dense", units = 10'
    spec.write_text(spec.read_text().replace(last, f'  {{ kind = "failing" }},\n{last}'))

    with (
        Server(tmp_path / "state", "--pass-env", "PYTHONPATH") as server,
        Client(server.address, patience=DEADLINE) as client,
    ):
        job = output("submit", str(spec), "--workers", "2", service=server.address)
        done = client.job(job.strip()).wait()

    assert (done.state, done.attempt) == (State.FAILED, 2)
    failure = done.failure
    assert failure is not None
    assert (failure.reason, failure.rank, failure.attempt) == ("RANK_EXCEPTION", 1, 2)
    assert not failure.retry_helps
    assert failure.message.startswith("rank 1: ValueError: no luck")
    assert failure.message.endswith("ended with the same exception at the same step")


def test_data_that_changed_between_attempts_end_the_job(
    server: Server, client: Client, tmp_path: Path
) -> None:
    rows = server.state.parent / "rows.csv"
    rows.write_text("a,b,label\n" + "".join(f"{i % 7},{i % 5},{i % 2}\n" for i in range(200)))
    spec = write(tmp_path / "job.toml", steps=10**9, every=20, backoff=3.0)
    table = '{ kind = "csv", path = "' + str(rows) + '", target = "label" }'
    text = spec.read_text().replace('{ kind = "digits", part = "train" }', table)
    spec.write_text(text.replace("units = 10", "units = 2"))
    job = client.submit(spec)
    until(lambda: reached(job, 100))
    rank(server, job, 0).kill()
    until(lambda: job.get().state is State.QUEUED)

    rows.write_text(rows.read_text().replace("6,", "8,"))
    done = job.wait()

    assert (done.state, done.attempt) == (State.FAILED, 2)
    assert done.failure is not None
    assert (done.failure.reason, done.failure.retry_helps) == ("DATA_CHANGED", False)
    assert "same shape, other values among rows" in done.failure.message
    assert done.failure.checkpoint_step >= 20
