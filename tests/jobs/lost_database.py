"""State folders that have lost their database, and their recovery."""

from __future__ import annotations

import json
from pathlib import Path

from dbp.job.state import Job
from dbp.jobs.recovery import RecoveryReport, recover
from dbp.storage.state_folder import StateFolder
from tests.jobs.fakes import Plane, data, manifest, spec


async def publish(plane: Plane, job: Job, *steps: int) -> None:
    for step in steps:
        await plane.manager.publisher.publish(
            job.id, 1, step=step, manifest=manifest(), chunks=data(fill=step), final=False
        )


def lose_database(path: Path) -> None:
    for name in ("dbp.sqlite", "dbp.sequence"):
        (path / name).unlink()


def rebuilt(path: Path) -> RecoveryReport:
    with StateFolder(path) as folder:
        report = recover(folder, lambda: 2_000.0)
    assert report is not None
    return report


def write_launch(path: Path, job: Job, *, ended: bool = False) -> Path:
    """Leave the files of a job's first launch."""
    folder = path / "jobs" / job.id / "attempt-1"
    folder.mkdir(parents=True, exist_ok=True)
    launch = {
        "job": job.id,
        "attempt": 1,
        "workers": 2,
        "secret": "s3",
        "run": str(folder / "run"),
    }
    (folder / "launch.json").write_text(json.dumps(launch))
    (folder / "spec.json").write_text(json.dumps(spec()))
    if ended:
        (folder / "exit.json").write_text("{}")
    return folder
