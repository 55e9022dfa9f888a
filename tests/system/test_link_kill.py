"""Links of real runs are killed and stopped: versions, outcome and bits do not notice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from dbp.client.client import Client
from dbp.client.job import JobHandle
from dbp.job.state import State
from dbp.launch.process_tree import MARK
from tests.cli.setups import Server, output, until, write_spec
from tests.deadline import DEADLINE
from tests.system.test_exact import MPICH, mpich_environment
from tests.system.test_train import DBP, MPIRUN, environment

pytestmark = pytest.mark.processes

MPIRUNS = {"openmpi": MPIRUN, "mpich": [str(MPICH / "bin" / "mpiexec")]}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "state") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address, patience=DEADLINE) as client:
        yield client


def links(mark: str) -> list[psutil.Process]:
    """Living links whose environment has the mark as a value."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if (
                "dbp.link.process" in process.cmdline()
                and mark in process.environ().values()
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
    return found


def newest(job: JobHandle) -> int:
    """Number of the job's newest version; 0 without one."""
    found = job.get().latest_parameters
    return 0 if found is None else found.version


def kill_link(mark: str) -> int:
    """Kill the link once there is one, and wait for its end; return its process id."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        found[:] = links(mark)
        return len(found) == 1

    until(is_there)
    found[0].kill()
    until(lambda: found[0] not in links(mark))  # else the next call could kill it again
    return found[0].pid


def wait_for_version(job: JobHandle, after: int) -> None:
    def reached() -> bool:
        assert not job.get().state.terminal, job.get()
        return newest(job) > after

    until(reached)


def digest(tensors: Mapping[str, np.ndarray]) -> str:
    content = b"".join(tensors[name].tobytes() for name in sorted(tensors))
    return hashlib.sha256(content).hexdigest()


def final(job: JobHandle) -> tuple[int, str, bool]:
    """Step, digest of the tensors' bytes, and whether these are the last parameters."""
    found = job.parameters()
    assert found is not None
    return found.version.step, digest(found.tensors), found.version.final


def chain_length(server: Server, job: JobHandle) -> int:
    """Number of versions, which form one chain without a gap."""
    text = output("verify", job.id, service=server.address)
    match = re.search(r"ok, ([\d,]+) versions form one chain", text)
    assert match is not None, text
    return int(match[1].replace(",", ""))


@pytest.mark.timeout(600)  # the links start one after another beside two busy ranks
@pytest.mark.parametrize("kills", [3, pytest.param(9, marks=pytest.mark.full)])
def test_killed_links_leave_no_gap_and_the_same_bits(
    server: Server, client: Client, tmp_path: Path, kills: int
) -> None:
    generator = random.Random(7)
    job = client.submit(write_spec(tmp_path / "job.toml", steps=10**6), workers=2)
    mark = str(server.state / "jobs" / job.id / "attempt-1")
    wait_for_version(job, 0)

    killed = set()
    for _ in range(kills - 1):
        before = newest(job)
        killed.add(kill_link(mark))
        wait_for_version(job, before)
        time.sleep(generator.uniform(0, 0.3))  # a version takes 0.1 s: at any moment of one
    job.cancel()
    time.sleep(generator.uniform(0, 0.05))
    killed.add(kill_link(mark))  # at the end: the last version and the outcome are under way

    assert job.wait().state is State.CANCELLED
    assert len(killed) == kills
    step, bits, is_final = final(job)
    assert is_final
    assert chain_length(server, job) == newest(job)
    log = "\n".join(job.logs())
    assert log.count("the link to the service was killed by SIGKILL") <= kills
    assert "Traceback" not in log
    undisturbed = client.submit(write_spec(tmp_path / "again.toml", steps=step), workers=2)
    assert undisturbed.wait().state is State.SUCCEEDED
    assert final(undisturbed) == (step, bits, True)


@pytest.mark.parametrize("library", MPIRUNS)
def test_the_link_of_a_run_started_by_hand_is_started_again_under_both_libraries(
    server: Server, client: Client, tmp_path: Path, library: str
) -> None:
    spec = write_spec(tmp_path / "job.toml", steps=10**6)
    log = tmp_path / "log.txt"
    mark = f"{tmp_path}:link-test"
    variables = {MARK: mark, **(mpich_environment() if library == "mpich" else {})}
    command = [
        *MPIRUNS[library], "-n", "2", DBP, "train", str(spec), "--run", str(tmp_path / "run"),
        "--service", server.address,
    ]  # fmt: skip
    with log.open("w") as stream:
        run = subprocess.Popen(
            command, env=environment(**variables), stdin=subprocess.DEVNULL, stdout=stream,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        until(lambda: list(client.jobs()) or run.poll() is not None)
        (listed,) = client.jobs()
        job = client.job(listed.id)
        wait_for_version(job, 0)
        for _ in range(3):
            before = newest(job)
            kill_link(mark)
            wait_for_version(job, before)
        job.cancel()
        kill_link(mark)
        ended = job.wait()
        run.wait(DEADLINE)
    finally:
        if run.poll() is None:
            run.kill()
            run.wait()

    assert ended.state is State.CANCELLED, log.read_text()
    assert run.returncode == 75, log.read_text()
    step, bits, is_final = final(job)
    assert is_final
    assert chain_length(server, job) == newest(job)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["step"] == step
    assert digest(load_file(tmp_path / "run" / "parameters.safetensors")) == bits


def test_a_stopped_link_of_a_real_job_is_shown_and_replaced(
    server: Server, client: Client, tmp_path: Path
) -> None:
    spec = write_spec(tmp_path / "job.toml", steps=10**6)
    spec.write_text(spec.read_text() + "[retry]\nstall_seconds = 6.0\n")
    job = client.submit(spec, workers=2)
    mark = str(server.state / "jobs" / job.id / "attempt-1")
    wait_for_version(job, 0)
    (stopped,) = links(mark)

    stopped.send_signal(signal.SIGSTOP)
    text = f"link (process {stopped.pid}) on {os.uname().nodename} is stopped (state T)"
    until(lambda: [held.message for held in job.get().conditions] == [text])
    wait_for_version(job, newest(job))
    until(lambda: not job.get().conditions)
    with contextlib.suppress(psutil.Error):
        os.kill(stopped.pid, signal.SIGCONT)

    (link,) = links(mark)
    assert link.pid != stopped.pid
    before = newest(job)
    wait_for_version(job, before)
    job.cancel()
    assert job.wait().state is State.CANCELLED
    assert chain_length(server, job) == newest(job)
    assert "has not read its messages for 6 s" in "\n".join(job.logs())
