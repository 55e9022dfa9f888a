"""SIGTERM to processes of a job under `dbp serve`: a checkpoint, a next attempt, the same bits.

Also to every process of the service, as systemd's default (KillMode=control-group) sends it.
"""

from __future__ import annotations

import contextlib
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dbp.client.client import Client
from dbp.client.job import JobHandle
from dbp.job.state import State
from tests.cli.setups import Server, until
from tests.deadline import DEADLINE
from tests.system.test_survival import EVERY, command, final, rank, reached, supervisor, write

pytestmark = pytest.mark.timeout(400)

STEPS = 6_000  # so many that none of them ends before the signals come


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[Server, Client]]:
    with (
        Server(folder / "state") as server,
        Client(server.address, patience=DEADLINE) as client,
    ):
        yield server, client


def submitted(client: Client, folder: Path, workers: int = 2) -> JobHandle:
    return client.submit(write(folder / "job.toml", steps=STEPS), workers=workers)


def expected(client: Client, folder: Path) -> tuple[int, str, bool]:
    """The end of a run that nothing disturbs."""
    job = submitted(client, folder, workers=1)
    assert job.wait().state is State.SUCCEEDED
    return final(job)


def top_down(processes: list[psutil.Process]) -> None:
    processes.sort(key=lambda process: process.pid)


def bottom_up(processes: list[psutil.Process]) -> None:
    processes.sort(key=lambda process: -process.pid)


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(top_down, marks=pytest.mark.full),
        pytest.param(bottom_up, marks=pytest.mark.full),
        random.Random(3).shuffle,
    ],
)
def test_sigterm_to_every_process_drains_the_jobs_which_resume_with_the_service(
    tmp_path: Path, order: Callable[[list[psutil.Process]], None]
) -> None:
    with (
        Server(tmp_path / "state") as server,
        Client(server.address, patience=DEADLINE) as client,
    ):
        bits = expected(client, tmp_path)
        job = submitted(client, tmp_path)
        until(lambda: reached(job, 2 * EVERY))
        above = supervisor(server, job)
        processes = [psutil.Process(server.pid), above, *above.children(recursive=True)]
        assert len(processes) == 6, "service, supervisor, mpirun, two ranks, link"
        order(processes)

        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        server.stop(signal.SIGTERM)
        until(lambda: not server.processes())
        server.start()

        until(lambda: job.get().attempt == 2)
        failure = job.get().previous_failure
        done = job.wait()
        assert failure is not None
        assert (failure.reason, failure.attempt, failure.retry_helps) == ("DRAINED", 1, True)
        assert failure.checkpoint_step >= 2 * EVERY
        assert failure.step == failure.checkpoint_step, "no step was lost"
        assert (done.state, done.attempt, done.failures) == (State.SUCCEEDED, 2, 0)
        assert final(job) == bits


VICTIMS: dict[str, Callable[[Server, JobHandle], list[psutil.Process]]] = {
    "mpirun": lambda server, job: [command(server, job)],
    "a rank": lambda server, job: [rank(server, job, 1)],
    "all ranks": lambda server, job: [rank(server, job, 0), rank(server, job, 1)],
    "the supervisor": lambda server, job: [supervisor(server, job)],
}


def test_sigterm_to_a_process_of_a_job_preempts_it(tmp_path: Path) -> None:
    with (
        Server(tmp_path / "state") as server,
        Client(server.address, patience=DEADLINE) as client,
    ):
        bits = expected(client, tmp_path)
        job = submitted(client, tmp_path)
        for attempt, (name, victims) in enumerate(VICTIMS.items(), start=1):
            step = attempt * 2 * EVERY
            until(lambda step=step: reached(job, step))  # type: ignore[misc]

            for process in victims(server, job):
                process.terminate()

            until(lambda attempt=attempt: job.get().attempt > attempt)  # type: ignore[misc]
            failure = job.get().previous_failure
            assert failure is not None
            reason = "DRAINED" if name == "the supervisor" else "PREEMPTED"
            assert (name, failure.reason) == (name, reason)
            assert failure.checkpoint_step == failure.step >= step
        done = job.wait()
        assert "epoch" in "".join(job.logs(rank=0))
        assert "".join(job.logs(rank=1)) == "", "only rank 0 reports"
        assert (done.state, done.attempt, done.failures) == (State.SUCCEEDED, 5, 0)
        assert final(job) == bits


def test_a_job_that_is_cancelled_while_it_is_drained_ends_cancelled(tmp_path: Path) -> None:
    with (
        Server(tmp_path / "state") as server,
        Client(server.address, patience=DEADLINE) as client,
    ):
        job = client.submit(write(tmp_path / "job.toml", steps=10**9), workers=2)
        until(lambda: reached(job, EVERY))

        job.cancel()
        for process in server.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()

        assert job.wait().state is State.CANCELLED
