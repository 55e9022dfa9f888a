"""Attempts under the installed mpirun, and the shared memory of killed MPI ranks."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dbp.launch.mpirun import MpirunLauncher
from dbp.launch.process_tree import marked
from dbp.launching import worker_command
from tests.jobs.fakes import until
from tests.launch.attempts import ended, log, request, supervisor

pytestmark = pytest.mark.processes

RANK = """
import os, sys, time
rank = os.environ.get("OMPI_COMM_WORLD_RANK", "?")
print("rank", rank, "ready", flush=True)
time.sleep(0.2 if sys.argv[1] == "end" else 600)
"""


def mpirun_of(script: str, *arguments: str) -> Callable[[int, Sequence[str]], list[str]]:
    def command(workers: int, worker: Sequence[str]) -> list[str]:
        return worker_command(workers, [sys.executable, "-c", script, *arguments])

    return command


async def test_real_mpirun_starts_ranks_and_is_ended_by_force(tmp_path: Path) -> None:
    wanted = request(tmp_path, workers=2)
    running = await MpirunLauncher(1, make_command=mpirun_of(RANK, "stay")).start(wanted)
    await until(lambda: log(wanted.folder).count("ready") == 2)

    await running.kill()
    record = await ended(running)

    assert record.stopped
    assert marked(wanted.folder) == []


async def test_real_mpirun_killed_takes_its_ranks_with_it(tmp_path: Path) -> None:
    wanted = request(tmp_path, workers=2)
    running = await MpirunLauncher(1, make_command=mpirun_of(RANK, "stay")).start(wanted)
    await until(lambda: log(wanted.folder).count("ready") == 2)
    (launcher,) = supervisor(wanted.folder).children()

    launcher.kill()
    record = await ended(running)

    assert record.signal == signal.SIGKILL
    assert marked(wanted.folder) == []


MPI_RANK = """
import time
from mpi4py import MPI
print("ready", MPI.COMM_WORLD.allreduce(MPI.COMM_WORLD.rank + 1), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("killed", ["force", "supervisor"])
async def test_killed_mpi_ranks_leave_no_shared_memory(tmp_path: Path, killed: str) -> None:
    wanted = request(tmp_path, workers=2)
    running = await MpirunLauncher(1, make_command=mpirun_of(MPI_RANK)).start(wanted)
    await until(lambda: log(wanted.folder).count("ready 3") == 2)
    record = json.loads((wanted.folder / "supervisor.json").read_text())
    scratch = [Path(path) for path in record["scratch"]]
    assert list(scratch[-1].glob("*segment*")), "MPI's shared memory is in our own folder"

    if killed == "force":
        await running.kill()
    else:
        supervisor(wanted.folder).kill()
    await ended(running)

    assert not any(path.exists() for path in scratch)
