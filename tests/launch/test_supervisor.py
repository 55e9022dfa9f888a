"""The supervisor of an attempt: it outlives the service, which adopts it again."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.launcher import Exit, Running
from dbp.launch.mpirun import MpirunLauncher
from dbp.launch.supervised_run import SupervisedRun
from dbp.storage.atomic_file import write_json
from tests.jobs.fakes import until
from tests.launch.attempts import (
    OBEDIENT,
    ended,
    log,
    request,
    running_script,
    start,
    supervisor,
)

# A service that launches and dies at once.
LAUNCH_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.launch.attempts import OBEDIENT, request, running_script
async def main():
    await running_script(OBEDIENT).start(request(Path(sys.argv[1])))
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


def launch_and_die(tmp_path: Path) -> Path:
    """Launch an attempt by a service that dies at once; return the attempt's folder."""
    command = [sys.executable, "-c", LAUNCH_AND_DIE, str(tmp_path)]
    died = subprocess.run(command, cwd=Path(__file__).parents[2])
    assert died.returncode == -signal.SIGKILL
    return request(tmp_path).folder


async def adopted(folder: Path) -> Running:
    running = await MpirunLauncher(1).adopt(folder)
    assert running is not None
    return running


async def test_a_run_outlives_the_service_and_is_adopted(tmp_path: Path) -> None:
    folder = await asyncio.to_thread(launch_and_die, tmp_path)

    running = await adopted(folder)

    await until(lambda: "ready" in log(folder))
    assert os.getsid(supervisor(folder).pid) == supervisor(folder).pid
    running.request_stop()
    assert (await ended(running)).exit_code == 75
    assert (await ended(await adopted(folder))).exit_code == 75, "also long after its end"


async def test_a_supervisor_that_is_still_starting_is_adopted_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.launch.mpirun.ADOPT_SECONDS", 0.0)
    folder = await asyncio.to_thread(launch_and_die, tmp_path)

    running = await adopted(folder)
    await running.kill()

    record = await ended(running)
    assert record.stopped, "a signal that comes early waits until the supervisor can obey it"


@pytest.mark.parametrize("step", [-3600.0, 3.0, 3600.0])
async def test_a_step_of_the_wall_clock_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    folder = await asyncio.to_thread(launch_and_die, tmp_path)
    running = await adopted(folder)
    await until(lambda: "ready" in log(folder))
    boot = psutil.boot_time()

    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot + step, raising=False)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(running.wait(), 0.5)
    running.request_stop()
    assert (await ended(running)).exit_code == 75


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_run_ends_when_its_folder_is_deleted(tmp_path: Path, replaced: bool) -> None:
    running, folder = await start(tmp_path, OBEDIENT)
    process = supervisor(folder)
    family = [process, *process.children(recursive=True)]
    assert len(family) > 1

    (tmp_path / "state").rename(tmp_path / "deleted")
    shutil.rmtree(tmp_path / "deleted")
    if replaced:
        folder.mkdir(parents=True)
        (folder / "supervisor.lock").touch()

    await until(lambda: not any(_lives(process) for process in family))
    assert (await ended(running)).lost
    assert [path.name for path in folder.glob("*")] == ["supervisor.lock"] * replaced


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


async def test_a_supervisor_of_an_earlier_dbp_is_adopted(tmp_path: Path) -> None:
    folder = await asyncio.to_thread(launch_and_die, tmp_path)
    await until(lambda: "ready" in log(folder))
    known = json.loads((folder / "supervisor.json").read_text())
    old = {"pid": known["pid"], "create_time": 1.0, "scratch": known["scratch"]}
    write_json(folder / "supervisor.json", old)

    running = await adopted(folder)
    running.request_stop()

    assert (await ended(running)).exit_code == 75


async def test_an_attempt_is_never_started_twice(tmp_path: Path) -> None:
    running, folder = await start(tmp_path, OBEDIENT)

    again = await running_script(OBEDIENT).start(request(tmp_path))
    again.request_stop()

    assert (await ended(running)).exit_code == 75
    assert (await ended(again)).exit_code == 75
    assert log(folder).count("ready") == 1


async def test_attempts_that_were_never_launched_are_not_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.launch.mpirun.ADOPT_SECONDS", 0.2)
    folder = request(tmp_path).folder

    assert await MpirunLauncher(1).adopt(folder) is None
    folder.mkdir(parents=True)
    (folder / "launch.json").write_text("{}")
    assert await MpirunLauncher(1).adopt(folder) is None


async def test_a_stranger_with_the_old_pid_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    write_json(
        tmp_path / "supervisor.json",
        {"pid": stranger.pid, "create_time": 1.0, "scratch": [str(tmp_path)]},
    )
    running = SupervisedRun(AttemptFiles(tmp_path))

    running.request_stop()
    await running.kill()

    assert await ended(running) == Exit(lost=True)
    assert stranger.poll() is None
    assert tmp_path.exists(), "only folders with our own name are removed"
    stranger.kill()
    stranger.wait()


async def test_a_second_supervisor_of_an_attempt_does_nothing(tmp_path: Path) -> None:
    running, folder = await start(tmp_path, OBEDIENT)
    first = supervisor(folder)

    second = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "dbp.launch.supervisor", str(folder)]
    )

    assert second.returncode == 1
    assert supervisor(folder) == first
    assert log(folder) == "ready\n"
    running.request_stop()
    await ended(running)
    third = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "dbp.launch.supervisor", str(folder)]
    )
    assert third.returncode == 1
    assert log(folder).count("ready") == 1


def test_the_supervisor_loads_neither_numpy_nor_grpc() -> None:
    script = "import dbp.launch.supervisor, sys; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"numpy", "grpc", "mpi4py", "sqlite3", "asyncio"} & set(loaded)
