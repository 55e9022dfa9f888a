"""Launcher for one machine: one supervisor process per attempt, which runs mpirun.

The supervisor and its children outlive the service. The attempt's folder holds all that is
known of it (``AttemptFiles``).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import psutil

from dbp.errors import DataLoss
from dbp.job.job_json import decode_outcome
from dbp.job.spec.plugins import Plugin
from dbp.job.state import RunOutcome
from dbp.json_value import JsonValue
from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.health import explain, health
from dbp.launch.launcher import Exit, Launcher, LaunchRequest, ProcessHealth, Running
from dbp.launch.process_tree import end_all, identified, marked
from dbp.launch.worker_plugins import WorkerPlugins
from dbp.launching import launch_environment, worker_command
from dbp.storage.atomic_file import PRIVATE, make_folder, read_json, write_json
from dbp.storage.threads import in_thread

POLL_SECONDS: Final = 0.1
ADOPT_SECONDS: Final = 2.0
KILL_SECONDS: Final = 5.0

# workers, the worker's own command -> the whole command
MakeCommand: TypeAlias = Callable[[int, Sequence[str]], list[str]]


@final
class MpirunLauncher(Launcher):
    """Starts ``mpirun -n N python -m dbp.worker FOLDER``; one worker runs without mpirun."""

    def __init__(
        self,
        slots: int,
        passed_variables: Sequence[str] = (),
        *,
        make_command: MakeCommand = worker_command,
    ) -> None:
        """Launch on this machine.

        Args:
            slots: processes that may run at the same time.
            passed_variables: environment variables that workers inherit in addition.
            make_command: tests pass other programs than mpirun and the worker.
        """
        self._slots = slots
        self._passed_variables = passed_variables
        self._make_command = make_command
        self._plugins = WorkerPlugins(self._environment(workers=1))

    @property
    def capacity(self) -> int:
        return self._slots

    def check_plugins(self, plugins: Iterable[Plugin]) -> None:
        self._plugins.check(plugins)

    async def start(self, request: LaunchRequest) -> Running:
        return await in_thread(partial(self._start, request))

    async def adopt(self, folder: Path) -> Running | None:
        files = AttemptFiles(folder)
        if not files.launch.exists():
            return None
        # The service may have died just after starting the supervisor: give it time to write.
        for _ in range(round(ADOPT_SECONDS / POLL_SECONDS)):
            if files.supervisor.exists() or files.exit.exists():
                return SupervisedRun(files)
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def fetch_outcome(self, folder: Path) -> RunOutcome | None:
        return await asyncio.to_thread(_outcome, AttemptFiles(folder).result)

    async def fetch_parameters(self, folder: Path) -> Path | None:
        path = AttemptFiles(folder).parameters
        return path if path.exists() else None

    def log_file(self, folder: Path) -> Path:
        return AttemptFiles(folder).log

    def _environment(self, workers: int) -> dict[str, str]:
        return launch_environment(workers, self._passed_variables)

    def _start(self, request: LaunchRequest) -> Running:
        files = AttemptFiles(make_folder(request.folder, PRIVATE))
        make_folder(files.run, PRIVATE)
        write_json(files.spec, request.document)
        worker = [sys.executable, "-m", "dbp.worker", str(files.folder)]
        launch: dict[str, JsonValue] = {
            "job": request.job_id,
            "attempt": request.attempt,
            "workers": request.workers,
            "secret": request.secret,
            "spec": str(files.spec),
            "run": str(files.run),
            "service_file": str(request.service_file),
            "command": self._make_command(request.workers, worker),
        }
        write_json(files.launch, launch)
        with files.supervisor_log.open("ab") as errors:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "dbp.launch.supervisor", str(files.folder)],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                cwd=files.folder,
                env={**self._environment(request.workers), "PYTHONSAFEPATH": "1"},
                start_new_session=True,
            )
        # It is meant to outlive this process: SupervisedRun reaps it, Popen need not warn.
        supervisor.returncode = 0
        return SupervisedRun(files, supervisor.pid)


@final
class SupervisedRun(Running):
    """An attempt under a supervisor, which may be a child of this process or not."""

    def __init__(self, files: AttemptFiles, child: int | None = None) -> None:
        """``child``: the supervisor's pid, if this process started it."""
        self._files = files
        self._child = child

    async def wait(self) -> Exit:
        """Wait for the supervisor's end and return its record; clean up if it left none."""
        while self._alive():
            await asyncio.sleep(POLL_SECONDS)
        exit_ = await asyncio.to_thread(self._recorded_exit)
        if exit_ is not None:
            return exit_
        await asyncio.to_thread(self._clean_up)
        return Exit(lost=True)

    async def health(self) -> list[ProcessHealth]:
        return await asyncio.to_thread(self._health)

    async def explain(self, ranks: Sequence[int]) -> dict[int, str]:
        found = await self.health()
        wanted = [process for process in found if process.rank in ranks]
        return await asyncio.to_thread(explain, self._files.folder, wanted)

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
        if self._supervisor() is not None:
            return True
        known = _read(self._files.supervisor)
        if known is not None:
            _reaped(known["pid"])  # of an adopted run: a child if its start was cancelled
        return False

    def _supervisor(self) -> psutil.Process | None:
        """Return the living supervisor, never another process with its pid."""
        if self._child is not None:
            return psutil.Process(self._child)  # not reaped: the pid cannot be another's
        known = _read(self._files.supervisor)
        return identified(known["pid"], known["create_time"]) if known else None

    def _health(self) -> list[ProcessHealth]:
        known = _read(self._files.supervisor)
        return health(Path(known["heartbeats"])) if known and "heartbeats" in known else []

    def _signal(self, number: int) -> None:
        try:
            supervisor = self._supervisor()
            if supervisor is not None:
                supervisor.send_signal(number)
        except psutil.Error:
            return  # gone meanwhile

    def _recorded_exit(self) -> Exit | None:
        content = _read(self._files.exit)
        if content is None:
            return None
        content["log_tail"] = tuple(content["log_tail"])
        return Exit(**content)

    def _clean_up(self) -> None:
        """Do the cleaning that the supervisor would have done."""
        end_all(lambda: marked(self._files.folder), grace=0.0)
        known = _read(self._files.supervisor) or {}
        for path in map(Path, known.get("scratch", [])):
            if path.name.startswith("dbp-"):
                shutil.rmtree(path, ignore_errors=True)


def _reaped(child: int) -> bool:
    """Whether the child has ended; reaps it."""
    try:
        return os.waitpid(child, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def _outcome(path: Path) -> RunOutcome | None:
    fields = read_json(path)
    if fields is None:
        return None
    try:
        return decode_outcome(fields)
    except (KeyError, ValueError, TypeError) as error:
        raise DataLoss(f"{path}: damaged: {error!r}") from error


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except DataLoss:
        return None  # as if it had never been written
