"""Attempts that run small programs in place of mpirun."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from dbp.launch.launcher import Exit, LaunchRequest, Running
from dbp.launch.mpirun import MpirunLauncher
from tests.deadline import DEADLINE
from tests.jobs.fakes import until

OBEDIENT = """
import os, signal, sys, time
def stop(*_):
    os.write(1, b"asked to stop\\n")  # print fails where the signal interrupts another print
    sys.exit(75)
signal.signal(signal.SIGUSR1, stop)
print("ready", flush=True)
time.sleep(600)
"""


def request(tmp_path: Path, workers: int = 1) -> LaunchRequest:
    return LaunchRequest(
        job_id="digits-1",
        attempt=1,
        workers=workers,
        document={"name": "digits"},
        secret="hush",
        folder=tmp_path / "state" / "attempt-1",
        service_file=tmp_path / "service.json",
        run=tmp_path / "state" / "run",
    )


def running_script(script: str) -> MpirunLauncher:
    def command(workers: int, worker: Sequence[str]) -> list[str]:
        return [sys.executable, "-c", script, str(workers), *worker]

    return MpirunLauncher(2, make_command=command)


def log(folder: Path) -> str:
    path = folder / "log.txt"
    return path.read_text() if path.exists() else ""


async def ended(running: Running) -> Exit:
    async with asyncio.timeout(DEADLINE):
        return await running.wait()


def supervisor(folder: Path) -> psutil.Process:
    return psutil.Process(json.loads((folder / "supervisor.json").read_text())["pid"])


async def start(tmp_path: Path, script: str, processes: int = 1) -> tuple[Running, Path]:
    """A running attempt that has said ``ready``."""
    wanted = request(tmp_path)
    running = await running_script(script).start(wanted)
    await until(lambda: log(wanted.folder).count("ready") >= processes)
    return running, wanted.folder
