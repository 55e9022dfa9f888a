"""Requests to stop reach ranks that can obey; signals to mpirun become such requests."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import psutil
import pytest

from dbp.heartbeat import slots
from dbp.launch.launcher import Running
from dbp.launch.mpirun import MpirunLauncher
from dbp.launch.process_tree import marked
from dbp.launch.rank_death import RankDeath
from dbp.launch.stop_request import DRAIN_SECONDS, END_SIGNALS, READY_SECONDS, StopRequest
from dbp.launching import worker_command
from tests.deadline import until
from tests.jobs import fakes
from tests.launch.attempts import OBEDIENT, ended, log, request, start, supervisor
from tests.system.test_exact import MPICH, mpich_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

# A rank that is slow to handle signals, and obeys them then.
RANK: Final = """
import os, signal, sys, time
from dbp.heartbeat import slots
from dbp.launching import detect
from dbp.train.stop_signals import STOP_SIGNALS
rank = detect(os.environ).rank
heartbeat = slots.make_heartbeat(os.environ, slots.FIRST_RANK + rank)
heartbeat.begin_step(7)
print("started", flush=True)
time.sleep(0.5)
def stop(*_):
    os.write(1, b"asked to stop\\n")
    os._exit(0)
signal.signal(signal.SIGUSR1, stop)
signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
print("ready", flush=True)
time.sleep(600)
"""
LIBRARIES: Final = ("openmpi", "mpich")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def sleeper() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts Python programs that say a line when they are ready."""
    started = []

    def begin(script: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-c",
            script + "\nprint('up', flush=True); import time; time.sleep(600)",
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


CATCH: Final = "import signal, sys; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))"


def test_a_rank_is_asked_once_it_can_obey(
    tmp_path: Path, sleeper: Callable[[str], subprocess.Popen[str]]
) -> None:
    rank = sleeper("import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)")
    heartbeats, clock = tmp_path / "heartbeats", Clock()
    slots.create(heartbeats, 1)
    slots.SlotHeartbeat(heartbeats, slots.FIRST_RANK, pid=rank.pid)
    able = sleeper(CATCH)
    wanted = StopRequest(able.pid, heartbeats, 1, clock)

    wanted.ask()
    clock.now += 10 * READY_SECONDS
    assert not wanted.poll(), "the rank that has reported has no handler yet"
    assert able.poll() is None
    slots.SlotHeartbeat(heartbeats, slots.FIRST_RANK, pid=able.pid)
    wanted.poll()

    assert able.wait() == 75


def test_ranks_that_do_not_report_are_asked_after_a_while(
    tmp_path: Path, sleeper: Callable[[str], subprocess.Popen[str]]
) -> None:
    heartbeats, clock = tmp_path / "heartbeats", Clock()
    slots.create(heartbeats, 2)
    mpirun = sleeper(CATCH)
    wanted = StopRequest(mpirun.pid, heartbeats, 2, clock)

    wanted.ask()
    wanted.poll()
    assert mpirun.poll() is None
    clock.now += READY_SECONDS
    assert not wanted.poll()

    assert mpirun.wait() == 75


def test_a_drain_has_a_deadline_and_a_stop_has_none(tmp_path: Path) -> None:
    heartbeats, clock = tmp_path / "heartbeats", Clock()
    slots.create(heartbeats, 1)
    stop = StopRequest(os.getpid(), heartbeats, 1, clock)
    drain = StopRequest(os.getpid(), heartbeats, 1, clock)
    slots.SlotHeartbeat(heartbeats, slots.FIRST_RANK, pid=1)  # never able

    stop.ask()
    drain.drain()
    assert (drain.poll(), drain.drained, stop.drained) == (False, True, False)
    clock.now += DRAIN_SECONDS - 1
    drain.drain()  # a second signal grants no more time
    clock.now += 1

    assert drain.poll()
    assert not stop.poll()


@pytest.mark.parametrize("number", END_SIGNALS)
async def test_a_signal_to_the_supervisor_lets_the_rank_finish(
    tmp_path: Path, number: signal.Signals
) -> None:
    running, folder = await start(tmp_path, OBEDIENT)

    supervisor(folder).send_signal(number)
    record = await ended(running)

    assert (record.exit_code, record.drained, record.stopped) == (75, True, False)
    assert "asked to stop" in log(folder)


async def test_a_stop_before_a_rank_handles_signals_waits_for_it(tmp_path: Path) -> None:
    slow = "import time; print('ready', flush=True); time.sleep(1)" + OBEDIENT
    running, folder = await start(tmp_path, slow)

    running.request_stop()

    assert (await ended(running)).exit_code == 75
    assert "asked to stop" in log(folder)


def mpirun_of(library: str) -> Callable[[int, Sequence[str]], list[str]]:
    mpirun = MPICH / "bin" / "mpiexec" if library == "mpich" else None

    def command(workers: int, worker: Sequence[str]) -> list[str]:
        return worker_command(workers, [sys.executable, "-c", RANK], mpirun=mpirun)

    return command


async def started(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch, text: str
) -> tuple[Running, Path]:
    """An attempt of two ranks under this library, which have both printed a text."""
    if library == "mpich":
        for name, value in mpich_environment().items():
            monkeypatch.setenv(name, value)
    wanted = request(tmp_path, workers=2)
    running = await MpirunLauncher(2, make_command=mpirun_of(library)).start(wanted)
    await fakes.until(lambda: log(wanted.folder).count(text) == 2)
    return running, wanted.folder


def ranks(folder: Path) -> list[psutil.Process]:
    return [process for process in marked(folder) if "-c" in process.cmdline()[1:2]]


def launchers(folder: Path) -> list[psutil.Process]:
    """mpirun, and any process between it and the ranks."""
    return [process for process in marked(folder) if process not in ranks(folder)]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("moment", ["started", "ready"])
async def test_sigterm_to_mpirun_lets_the_ranks_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, moment: str
) -> None:
    running, folder = await started(tmp_path, library, monkeypatch, moment)

    supervisor(folder).children()[0].terminate()
    record = await ended(running)

    assert (record.exit_code, record.preempted, record.drained) == (0, True, False)
    assert log(folder).count("asked to stop") == 2


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("order", ["as they come", "from below"])
async def test_sigterm_to_all_processes_lets_the_ranks_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, order: str
) -> None:
    """systemd sends it to every process of the service's control group, in any order."""
    running, folder = await started(tmp_path, library, monkeypatch, "ready")
    processes = [supervisor(folder), *launchers(folder)]
    ignoring = ranks(folder)  # RANK dies of SIGTERM: the real one asks for a stop as well
    assert len(ignoring) == 2

    for process in processes if order == "as they come" else processes[::-1]:
        with contextlib.suppress(psutil.NoSuchProcess):  # MPICH's helpers end when ranks run
            process.terminate()
    record = await ended(running)

    assert (record.exit_code, record.drained, record.stopped) == (0, True, False)
    assert log(folder).count("asked to stop") == 2


@pytest.mark.parametrize("library", LIBRARIES)
async def test_the_record_names_the_rank_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    running, folder = await started(tmp_path, library, monkeypatch, "ready")
    (victim,) = [p for p in ranks(folder) if p.pid == slots.read(beats(folder))[-1].pid]

    victim.kill()
    record = await ended(running)

    assert record.death == RankDeath(1, socket.gethostname(), signal=9, step=7)


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_killed_mpirun_is_no_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    running, folder = await started(tmp_path, library, monkeypatch, "ready")

    supervisor(folder).children()[0].kill()
    record = await ended(running)

    assert (record.signal, record.death) == (signal.SIGKILL, None)
    until(lambda: not marked(folder))


def beats(folder: Path) -> Path:
    import json

    return Path(json.loads((folder / "supervisor.json").read_text())["heartbeats"])
