"""Jobs on a full disk: they wait, say so, can be cancelled, and end as their run did."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import DiskFull
from dbp.job.failure import ConditionKind
from dbp.job.snapshot import encode_header
from dbp.job.state import Job, ProgressReport, State, before_first_step
from dbp.jobs.disk_wait import RETRY_SECONDS
from dbp.launch.launcher import Exit
from tests.jobs.fakes import FakeLauncher, Plane, control_plane, manifest, settle, spec
from tests.jobs.runs import attach, ended

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
REPORT = ProgressReport(5, 100, 1, 0.5, {}, 1.0, None, 0.0)


async def message(plane: Plane, job: Job) -> str:
    """The message of the condition DISK_FULL; "" without it."""
    found = (await plane.manager.get(job.id)).conditions
    return next((c.message for c in found if c.kind is ConditionKind.DISK_FULL), "")


async def state(plane: Plane, job: Job) -> State:
    return (await plane.manager.get(job.id)).state


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_start_waits_for_space(tmp_path: Path, number: int) -> None:
    launcher = FakeLauncher(error=OSError(number, os.strerror(number)))
    async with control_plane(tmp_path / "s", launcher) as plane:
        job = await plane.manager.create(spec(), workers=1)
        for _ in range(3):
            await plane.clock.advance(RETRY_SECONDS)
        assert await state(plane, job) is State.STARTING
        text = f"the start of its run waits for space: {os.strerror(number)}"
        assert await message(plane, job) == text
        assert len(launcher.requests) == 4

        launcher.error = None
        await plane.clock.advance(RETRY_SECONDS)

        assert await message(plane, job) == ""
        assert job.id in launcher.runs


async def test_a_start_that_waits_for_space_can_be_cancelled(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", FakeLauncher(error=FULL)) as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()

        await plane.manager.cancel(job.id)
        await plane.clock.advance(RETRY_SECONDS)

        done = await ended(plane, job.id)
        assert (done.state, done.failure) == (State.CANCELLED, None)


def write_parameters(plane: Plane, job: Job, content: bytes) -> None:
    place = plane.folder.run_folder(job.id)
    place.mkdir(parents=True)
    (place / "parameters.safetensors").write_bytes(content)


async def leave_parameters(plane: Plane, job: Job) -> None:
    """End the run with a result and its final parameters, which have not been published."""
    run = plane.launcher.runs[job.id]
    run.write_result("succeeded")
    write_parameters(plane, job, encode_header(manifest()) + b"p" * 16)
    run.end(Exit(exit_code=0))
    await settle()


def fill(plane: Plane, patch: pytest.MonkeyPatch) -> None:
    """Have every version find the disk full."""

    async def full(*_: Any, **__: Any) -> None:
        raise DiskFull("job a: the version cannot be stored: No space left on device")

    patch.setattr(plane.manager.publisher, "publish", full)


async def test_final_parameters_wait_for_space_and_then_the_job_has_succeeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        await attach(plane, job)
        with monkeypatch.context() as patch:
            fill(plane, patch)
            await leave_parameters(plane, job)
            for _ in range(5):
                await plane.clock.advance(RETRY_SECONDS)
            assert await state(plane, job) is State.RUNNING
            assert "its final version waits for space" in await message(plane, job)
        lines = [record for record in caplog.records if record.name == "dbp.jobs"]
        assert len(lines) == 1, "one line, not one a try"

        await plane.clock.advance(RETRY_SECONDS)

        done = await ended(plane, job.id)
        assert (done.state, done.failure, done.conditions) == (State.SUCCEEDED, None, ())
        assert done.latest_parameters is not None
        assert done.latest_parameters.final


async def test_a_job_whose_final_parameters_wait_can_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        await attach(plane, job)
        fill(plane, monkeypatch)
        await leave_parameters(plane, job)

        await plane.manager.cancel(job.id)
        await plane.clock.advance(RETRY_SECONDS)

        done = await ended(plane, job.id)
        assert done.state is State.CANCELLED
        assert done.failure is not None
        assert done.failure.reason == "DISK_FULL"
        assert "No space left on device" in done.failure.message
        assert "parameters.safetensors" in done.failure.message


async def test_other_errors_of_the_final_parameters_do_not_hold_the_job_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        run = plane.launcher.runs[job.id]
        run.write_result("succeeded")
        write_parameters(plane, job, b"damaged")
        run.end(Exit(exit_code=0))

        assert (await ended(plane, job.id)).state is State.SUCCEEDED
        assert "its final parameters" in caplog.text


async def test_a_full_disk_that_a_run_reports_is_its_condition(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        await attach(plane, job)
        for text in ("", "no checkpoints", "no checkpoints", ""):
            report = dataclasses.replace(REPORT, disk_full=text)
            await plane.manager.reports.progress(job.id, 1, report)
            assert await message(plane, job) == text


async def test_a_run_that_waits_before_its_first_step_keeps_the_progress_before(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        await attach(plane, job)
        await plane.manager.reports.progress(job.id, 1, REPORT)
        for text in ("spec.json cannot be written", ""):
            waits = dataclasses.replace(before_first_step(1.0), disk_full=text)
            await plane.manager.reports.progress(job.id, 1, waits)
            assert await message(plane, job) == text
            assert (await plane.manager.get(job.id)).progress == REPORT


async def test_a_restarted_service_shows_it_again(tmp_path: Path) -> None:
    full = dataclasses.replace(REPORT, disk_full="no checkpoints")
    launcher = FakeLauncher()
    async with control_plane(tmp_path / "s", launcher) as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        await attach(plane, job)
        await plane.manager.reports.progress(job.id, 1, full)
    async with control_plane(tmp_path / "s", FakeLauncher()) as plane:
        await attach(plane, job)

        await plane.manager.reports.progress(job.id, 1, full)

        assert await message(plane, job) == "no checkpoints"


async def test_a_refused_version_is_a_condition_until_one_is_stored(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        await attach(plane, job)
        for _ in range(2):
            with pytest.raises(DiskFull):
                async with plane.manager.disk.upload(job.id):
                    raise DiskFull("no space")
            assert await message(plane, job) == "the next version waits for space: no space"

        async with plane.manager.disk.upload(job.id):
            pass

        assert await message(plane, job) == ""
