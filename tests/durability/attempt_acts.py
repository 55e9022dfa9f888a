"""A job is launched, its attempt fails, and the next one resumes from its newest checkpoint."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final
from unittest import mock

import numpy as np

from dbp.job.snapshot import manifest_of
from dbp.job.state import RunOutcome
from dbp.launch import mpirun
from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.launcher import Exit, LaunchRequest, Running
from dbp.launch.mpirun import MpirunLauncher
from dbp.storage.atomic_file import read_json, write_json
from dbp.storage.checkpoints import CHECKPOINTS, NewestCheckpoint
from dbp.train.report.fan_out import FanOut, OutcomeRecorder
from dbp.train.report.run_folder import RunFolder
from dbp.train.report.sink import ParameterSnapshot, Started
from dbp.train.state.checkpoint import CheckpointStore
from tests.durability.act import Acknowledger
from tests.durability.checkpoint_acts import SHAPES, checkpoint
from tests.durability.service_acts import ServiceAct, Step
from tests.jobs.fakes import LOCAL, FakeLauncher, Plane, settle, spec

JOB: Final = "a-1"
STEPS: Final = 4
FAILS_AT: Final = 2


@final
class FileLauncher(FakeLauncher):
    """Writes and reads the files of real launches; starts no supervisor."""

    async def start(self, request: LaunchRequest) -> Running:
        with _without_supervisor():
            await _launcher().start(request)
        write_json(AttemptFiles(request.folder).supervisor, {})  # as a supervisor would
        return await super().start(request)

    async def adopt(self, folder: Path) -> Running | None:
        with _without_supervisor():
            found = await _launcher().adopt(folder)
        return None if found is None else await super().adopt(folder)

    async def fetch_checkpoint(self, run: Path) -> NewestCheckpoint:
        return await LOCAL.fetch_checkpoint(run)


def _launcher() -> MpirunLauncher:
    return MpirunLauncher(1, make_command=lambda workers, command: ["true"])


@contextmanager
def _without_supervisor() -> Iterator[None]:
    class Started:
        pid = 0

        def __init__(self, command: list[str], **_: Any) -> None:
            pass

    with (
        mock.patch.object(subprocess, "Popen", Started),
        mock.patch.object(mpirun, "ADOPT_SECONDS", 0.0),
    ):
        yield


def submit() -> Step:
    """A client creates a job that is launched again when it fails."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        document = spec("a", retry={"attempts": 3, "backoff_seconds": 0.0})
        job = await plane.manager.create(document, workers=1, request_id="a")
        acknowledge(f"{job.id} {job.state}")

    return step


def attempt(*, fails: bool) -> Step:
    """The processes of the newest launch run, and are killed on the way or end well."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        await _replace_lost(plane)
        job = await plane.manager.get(JOB)
        if not job.state.terminal:
            begun = _train(plane.folder.attempt_folder(JOB, job.attempt), fails=fails)
            assert begun >= job.checkpoint_step, "an acknowledged checkpoint was not used"
            exit_ = Exit(signal=9) if fails else Exit(exit_code=0)
            plane.launcher.runs[JOB].end(exit_)
            await plane.clock.advance(1.0)
        acknowledge(f"checkpoint {FAILS_AT}" if fails else f"{JOB} SUCCEEDED")

    return step


async def _replace_lost(plane: Plane) -> None:
    """End a run that an earlier process has started: it was killed with that process."""
    await settle()
    if plane.launcher.adopted and not plane.launcher.requests:
        plane.launcher.runs[JOB].end(Exit(lost=True))
        await plane.clock.advance(1.0)


def _train(folder: Path, *, fails: bool) -> int:
    """Do what rank 0 does in the launch of this folder; return the step that it began at."""
    files = AttemptFiles(folder)
    launch, document = read_json(files.launch), read_json(files.spec)
    assert launch is not None
    assert document is not None
    path = Path(launch["run"])
    if launch["resume"]:
        run = RunFolder.resume(path, document)
    else:
        run = RunFolder.prepare(path, document, overwrite=True)
    store = CheckpointStore(path / CHECKPOINTS, SHAPES, "float32", keep=1)
    newest = store.newest(print) if launch["resume"] else None
    begun = 0 if newest is None else newest.step
    if newest is None:
        store.discard()
    sink = FanOut(run, OutcomeRecorder(folder))
    sink.started(Started(1, STEPS, 1.0, STEPS, STEPS, 310, steps_done=begun))
    for number in range(begun + 1, (FAILS_AT if fails else STEPS) + 1):
        store.write(checkpoint(number), {})
    if fails:
        run.close()
        return begun
    vector = checkpoint(STEPS).vectors["parameters"]
    manifest = manifest_of({"0.weight": (len(vector),)}, "F32", {})
    sink.snapshot(ParameterSnapshot(STEPS, 1, np.array(vector), manifest, final=True))
    sink.finished(RunOutcome("succeeded", "steps", STEPS))
    return begun


RESUME_JOB: Final = ServiceAct(
    "launch, fail and resume", submit(), attempt(fails=True), attempt(fails=False),
    launcher=FileLauncher,
)  # fmt: skip
