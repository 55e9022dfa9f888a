"""Launcher for one machine: one supervisor process per attempt, which runs mpirun.

The supervisor and its children outlive the service. The attempt's folder holds all
facts about it (``AttemptFiles``). The lock in that folder says whether a supervisor lives: the
launcher takes it and hands it over, and the kernel releases it when the supervisor ends.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, final

from dbp.data_roots import DataRoots
from dbp.errors import DataLoss
from dbp.job.job_json import decode_outcome
from dbp.job.spec.plugins import Plugin
from dbp.job.state import RunOutcome
from dbp.json_value import JsonValue
from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.data_launch import data_fields
from dbp.launch.exit_record import reserve_exit
from dbp.launch.file_lock import is_held, take
from dbp.launch.launcher import Launcher, LaunchRequest, Running
from dbp.launch.supervised_run import POLL_SECONDS, SupervisedRun
from dbp.launch.worker_plugins import WorkerPlugins
from dbp.launching import launch_environment, worker_command
from dbp.storage.atomic_file import PRIVATE, make_folder, read_json, write_json
from dbp.storage.checkpoints import CHECKPOINTS, NewestCheckpoint, newest_sound
from dbp.storage.threads import in_thread

ADOPT_SECONDS: Final = 2.0
# Files of a run folder that hold the end of a run.
PARAMETERS: Final = "parameters.safetensors"
RESULT: Final = "result.json"

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
        data_roots: Sequence[Path] | None = None,
        make_command: MakeCommand = worker_command,
    ) -> None:
        """Launch on this machine.

        Args:
            slots: processes that may run at the same time.
            passed_variables: environment variables that workers inherit in addition.
            data_roots: folders below which the ranks open data files; None: any, but none for
                a job that is confined to such folders.
            make_command: tests pass other programs than mpirun and the worker.
        """
        self._slots = slots
        self._passed_variables = passed_variables
        self._data_roots = None if data_roots is None else DataRoots.of(data_roots)
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
        if not files.supervisor_lock.exists():
            await _older_supervisor(files)
        held = is_held(files.supervisor_lock)  # before its last files are looked for
        started = held or files.supervisor.exists() or files.exit.exists()
        return SupervisedRun(files) if started else None

    async def fetch_outcome(self, folder: Path) -> RunOutcome | None:
        files = AttemptFiles(folder)
        found = await asyncio.to_thread(_outcome, files.result)
        return found or await asyncio.to_thread(_outcome, files.old_result)

    async def fetch_parameters(self, run: Path) -> Path | None:
        path = run / PARAMETERS
        return path if path.exists() else None

    async def fetch_best(self, folder: Path) -> Path | None:
        path = AttemptFiles(folder).best
        return path if path.exists() else None

    async def fetch_checkpoint(self, run: Path) -> NewestCheckpoint:
        return await asyncio.to_thread(newest_sound, run / CHECKPOINTS)

    def log_file(self, folder: Path, rank: int | None = None) -> Path:
        files = AttemptFiles(folder)
        return files.log if rank is None else files.rank_log(rank)

    def _roots_of(self, request: LaunchRequest) -> DataRoots | None:
        if self._data_roots is None and request.confined:
            return DataRoots(())
        return self._data_roots

    def _environment(self, workers: int) -> dict[str, str]:
        return launch_environment(workers, self._passed_variables)

    def _start(self, request: LaunchRequest) -> Running:
        state = request.service_file.parent
        files = AttemptFiles(make_folder(request.folder, PRIVATE, below=state))
        lock = take(files.supervisor_lock)
        if lock is None:  # never two runs of one attempt
            return SupervisedRun(files)
        try:
            return self._start_locked(files, lock, request)
        finally:
            os.close(lock)

    def _start_locked(self, files: AttemptFiles, lock: int, request: LaunchRequest) -> Running:
        make_folder(request.run, PRIVATE, below=request.service_file.parent)
        for name in (PARAMETERS, RESULT):  # of an earlier attempt
            (request.run / name).unlink(missing_ok=True)
        reserve_exit(files)
        write_json(files.spec, request.document)
        worker = [sys.executable, "-m", "dbp.worker", str(files.folder)]
        launch: dict[str, JsonValue] = {
            "job": request.job_id,
            "attempt": request.attempt,
            "workers": request.workers,
            "secret": request.secret,
            "spec": str(files.spec),
            "run": str(request.run),
            "resume": request.resume,
            "published": list(request.published),
            "service_file": str(request.service_file),
            "best": str(files.best),
            **data_fields(self._roots_of(request), request.data_digest),
            "command": self._make_command(request.workers, worker),
        }
        write_json(files.launch, launch)
        return self._supervise(files, lock, request.workers)

    def _supervise(self, files: AttemptFiles, lock: int, workers: int) -> Running:
        """Start the supervisor and pass it the lock, which is never free in between."""
        with files.supervisor_log.open("ab") as errors:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "dbp.launch.supervisor", str(files.folder), str(lock)],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                cwd=files.folder,
                env={**self._environment(workers), "PYTHONSAFEPATH": "1"},
                start_new_session=True,
                pass_fds=[lock],
            )
        # It is meant to outlive this process: SupervisedRun reaps it, Popen need not warn.
        supervisor.returncode = 0
        return SupervisedRun(files, supervisor.pid)


async def _older_supervisor(files: AttemptFiles) -> None:
    """Wait for a supervisor that an earlier dbp has just started to make its lock."""
    for _ in range(round(ADOPT_SECONDS / POLL_SECONDS)):
        if files.supervisor_lock.exists() or files.exit.exists():
            return
        await asyncio.sleep(POLL_SECONDS)


def _outcome(path: Path) -> RunOutcome | None:
    fields = read_json(path)
    if fields is None:
        return None
    try:
        return decode_outcome(fields)
    except (KeyError, ValueError, TypeError) as error:
        raise DataLoss(f"{path}: damaged: {error!r}") from error
