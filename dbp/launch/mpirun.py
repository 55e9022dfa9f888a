"""Launcher for one machine: one supervisor process per attempt, which runs mpirun.

The supervisor and its children outlive the service. The attempt's folder holds all that is
known of it: ``launch.json`` and ``spec.json`` (written here), ``supervisor.json``, ``log.txt``
and ``exit.json`` (by the supervisor), ``run/`` (by rank 0).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import psutil

from dbp.errors import DataLoss
from dbp.launch.launcher import Exit, Launcher, LaunchRequest, Running
from dbp.launch.process_tree import end_all, identified, marked
from dbp.launching import launch_environment, worker_command
from dbp.storage.durable import make_private, read_json, write_json

POLL_SECONDS: Final = 0.1
ADOPT_SECONDS: Final = 2.0
KILL_SECONDS: Final = 5.0

# workers, the worker's own command -> the whole command
MakeCommand: TypeAlias = Callable[[int, Sequence[str]], list[str]]
MakeEnvironment: TypeAlias = Callable[[int], Mapping[str, str]]


@final
class MpirunLauncher(Launcher):
    """Starts ``mpirun -n N python -m dbp.worker FOLDER``; one worker runs without mpirun."""

    def __init__(
        self,
        *,
        make_command: MakeCommand = worker_command,
        make_environment: MakeEnvironment = launch_environment,
    ) -> None:
        """Tests pass other programs than mpirun and the worker."""
        self._make_command = make_command
        self._make_environment = make_environment

    async def start(self, request: LaunchRequest) -> Running:
        return await asyncio.to_thread(self._start, request)

    async def adopt(self, folder: Path) -> Running | None:
        if not (folder / "launch.json").exists():
            return None
        # The service may have died just after starting the supervisor: give it time to write.
        for _ in range(round(ADOPT_SECONDS / POLL_SECONDS)):
            if (folder / "supervisor.json").exists() or (folder / "exit.json").exists():
                return SupervisedRun(folder)
            await asyncio.sleep(POLL_SECONDS)
        return None

    def _start(self, request: LaunchRequest) -> Running:
        folder = make_private(request.folder)
        make_private(folder / "run")
        worker = [sys.executable, "-m", "dbp.worker", str(folder)]
        write_json(folder / "spec.json", request.document)
        launch = {
            "job": request.job_id,
            "attempt": request.attempt,
            "workers": request.workers,
            "secret": request.secret,
            "spec": str(folder / "spec.json"),
            "run": str(folder / "run"),
            "service_file": str(request.service_file),
            "command": self._make_command(request.workers, worker),
        }
        write_json(folder / "launch.json", launch)
        environment = {**self._make_environment(request.workers), "PYTHONSAFEPATH": "1"}
        with (folder / "supervisor.log").open("ab") as errors:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "dbp.launch.supervisor", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        # It is meant to outlive this process: SupervisedRun reaps it, Popen need not warn.
        supervisor.returncode = 0
        return SupervisedRun(folder, supervisor.pid)


@final
class SupervisedRun(Running):
    """An attempt under a supervisor, which may be a child of this process or not."""

    def __init__(self, folder: Path, child: int | None = None) -> None:
        """``child``: the supervisor's pid, if this process started it."""
        self._folder = folder
        self._child = child

    async def wait(self) -> Exit:
        """Wait for the supervisor's end and return its record; clean up if it left none."""
        while self._alive():
            await asyncio.sleep(POLL_SECONDS)
        exit_ = self._recorded_exit()
        if exit_ is not None:
            return exit_
        await asyncio.to_thread(self._clean_up)
        return Exit(lost=True)

    def request_stop(self) -> None:
        """Send SIGUSR1, which the supervisor forwards."""
        self._signal(signal.SIGUSR1)

    async def kill(self) -> None:
        """Send SIGTERM to the supervisor, and SIGKILL if that does not help."""
        self._signal(signal.SIGTERM)
        for _ in range(round(KILL_SECONDS / POLL_SECONDS)):
            if not self._alive():
                return
            await asyncio.sleep(POLL_SECONDS)
        self._signal(signal.SIGKILL)

    def _alive(self) -> bool:
        if self._child is not None and _reaped(self._child):
            self._child = None
        return self._supervisor() is not None

    def _supervisor(self) -> psutil.Process | None:
        """Return the living supervisor, never another process with its pid."""
        if self._child is not None:
            return psutil.Process(self._child)  # not reaped: the pid cannot be another's
        known = _read(self._folder / "supervisor.json")
        return identified(known["pid"], known["create_time"]) if known else None

    def _signal(self, number: int) -> None:
        try:
            supervisor = self._supervisor()
            if supervisor is not None:
                supervisor.send_signal(number)
        except psutil.Error:
            return  # gone meanwhile

    def _recorded_exit(self) -> Exit | None:
        content = _read(self._folder / "exit.json")
        if content is None:
            return None
        content["log_tail"] = tuple(content["log_tail"])
        return Exit(**content)

    def _clean_up(self) -> None:
        """Do the cleaning that the supervisor would have done."""
        end_all(lambda: marked(self._folder), grace=0.0)
        known = _read(self._folder / "supervisor.json") or {}
        for path in map(Path, known.get("scratch", [])):
            if path.name.startswith("dbp-"):
                shutil.rmtree(path, ignore_errors=True)


def _reaped(child: int) -> bool:
    """Whether the child has ended; reaps it."""
    try:
        return os.waitpid(child, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except DataLoss:
        return None  # as if it had never been written
