"""Rebuild jobs without records: from their launches, results and files of versions."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from dbp.job.failure import FailureReason
from dbp.job.state import Job, State
from dbp.jobs.connections import hash_secret
from dbp.launch.launcher import Exit
from tests.jobs.damage import opened
from tests.jobs.fakes import FakeLauncher, FakeRunning, control_plane, spec
from tests.jobs.lost_database import lose_database, publish, rebuilt, write_launch
from tests.jobs.runs import attach, ended


async def test_without_records_jobs_are_rebuilt_from_their_launches_and_versions(
    jobs: tuple[Path, list[Job]],
) -> None:
    path, (running, *_) = jobs
    write_launch(path, running)
    lose_database(path)
    shutil.rmtree(path / "records")

    report = rebuilt(path)

    assert (report.jobs, report.versions) == (1, 3)
    assert f"job {running.id}: labels and pins of its versions" in report.notes
    launcher = FakeLauncher()
    async with control_plane(path, launcher, slots=4) as plane:
        job = await plane.manager.get(running.id)
        assert (job.state, job.attempt, job.workers) == (State.STARTING, 1, 2)
        assert job.spec == spec()
        assert await plane.store.secret_hash(job.id, 1) == hash_secret("s3")
        index = await plane.store.versions(job.id)
        assert [(v.version, v.step) for v in index.kept] == [(1, 10), (2, 20), (3, 30)]
        assert index.kept[1].previous_digest == index.kept[0].digest
        content = (path / "jobs" / job.id / "parameters" / "1.safetensors").read_bytes()
        assert index.kept[0].digest == hashlib.sha256(content).hexdigest()
        await attach(plane, dataclasses.replace(job, workers=2))
        await publish(plane, job, 40)
        assert (await plane.store.versions(job.id)).newest.version == 4  # type: ignore[union-attr]


async def test_a_version_that_the_chain_refutes_is_left_out(
    jobs: tuple[Path, list[Job]],
) -> None:
    path, (running, *_) = jobs
    write_launch(path, running)
    lose_database(path)
    shutil.rmtree(path / "records")
    damaged = path / "jobs" / running.id / "parameters" / "1.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)

    report = rebuilt(path)

    assert report.versions == 2
    assert any("version 1: its digest is not the one" in note for note in report.notes)


async def test_a_launch_that_ended_without_a_record_is_failed_with_state_lost(
    jobs: tuple[Path, list[Job]],
) -> None:
    path, (running, *_) = jobs
    write_launch(path, running, ended=True)
    lose_database(path)
    shutil.rmtree(path / "records")

    report = rebuilt(path)

    assert any("FAILED with STATE_LOST" in note for note in report.notes)
    async with control_plane(path) as plane:
        job = await plane.manager.get(running.id)
        assert job.state is State.FAILED
        assert job.failure is not None
        assert job.failure.reason is FailureReason.STATE_LOST
        assert job.failure.attempt == 1
        assert f"dbp retry {job.id}" in job.failure.message


async def test_a_launch_that_succeeded_without_a_record_succeeds(
    jobs: tuple[Path, list[Job]],
) -> None:
    path, (running, *_) = jobs
    folder = write_launch(path, running, ended=True)
    lose_database(path)
    shutil.rmtree(path / "records")

    def found(attempt: Path) -> FakeRunning:
        run = FakeRunning(attempt)
        run.write_result("succeeded")
        run.end(Exit(exit_code=0))
        return run

    found_run: Any = {"status": "succeeded", "reason": "epochs", "step": 7}
    (folder / "run").mkdir()
    (folder / "run" / "result.json").write_text(json.dumps(found_run))
    rebuilt(path)

    async with control_plane(path, FakeLauncher(found=found)) as plane:
        assert (await ended(plane, running.id)).state is State.SUCCEEDED


async def test_a_folder_of_which_nothing_is_known_is_moved_aside(
    jobs: tuple[Path, list[Job]],
) -> None:
    path, (running, first, second) = jobs
    lose_database(path)
    (path / "records" / f"{running.id}.json").write_bytes(b"{}")

    report = rebuilt(path)

    assert report.jobs == 2
    assert f"job {running.id}: its spec; its files are in lost/{running.id}" in report.notes
    assert (path / "lost" / running.id / "parameters" / "3.safetensors").exists()
    assert (path / "lost" / f"{running.id}.json").read_bytes() == b"{}"
    assert {job.id for job in (await opened(path)).jobs} == {first.id, second.id}


async def test_a_version_without_a_file_is_noted(jobs: tuple[Path, list[Job]]) -> None:
    path, (running, *_) = jobs
    lose_database(path)
    (path / "jobs" / running.id / "parameters" / "2.safetensors").unlink()

    report = rebuilt(path)

    assert report.versions == 2
    assert f"job {running.id}: version 2: its file is missing" in report.notes
