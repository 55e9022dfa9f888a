"""Jobs that are deleted unasked: after a time to live, or above a quota of disk."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbp.job.state import Job
from dbp.jobs.clean_up import INTERVAL_SECONDS
from dbp.storage.disk_use import used_bytes
from dbp.versions.index import At
from tests.jobs.fakes import Plane, control_plane, data, manifest, settle, spec, until
from tests.jobs.runs import attach, ended, finish

DAY = 86_400.0
MB = 1_000_000


async def begun(plane: Plane, *, best: bool = False, size: int = 0) -> Job:
    """A running job with one version, and a file of this size."""
    job = await plane.manager.create(spec(), workers=1)
    await settle()
    await attach(plane, job)
    await plane.manager.publisher.publish(
        job.id, 1, step=1, manifest=manifest(), chunks=data(), best=best
    )
    folder = plane.folder.job_folder(job.id) / "run"
    folder.mkdir()
    (folder / "checkpoint").write_bytes(os.urandom(size))
    return job


async def trained(plane: Plane, *, best: bool = False, size: int = 0) -> Job:
    job = await begun(plane, best=best, size=size)
    finish(plane, job.id)
    return await ended(plane, job.id)


async def present(plane: Plane) -> set[str]:
    return {job.id for job in (await plane.manager.list())[0]}


async def test_a_job_is_deleted_when_its_time_to_live_is_over(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", keep_ended_seconds=DAY) as plane:
        old = await trained(plane)
        await plane.clock.advance(DAY / 2)
        young, live = await trained(plane), await begun(plane)

        await plane.clock.advance(DAY / 2 - 1)
        assert await present(plane) == {old.id, young.id, live.id}
        await plane.clock.advance(INTERVAL_SECONDS + 1)
        await until(lambda: not plane.folder.job_folder(old.id).exists())
        await settle()

        assert await present(plane) == {young.id, live.id}
        await plane.clock.advance(DAY)
        await settle()
        assert await present(plane) == {live.id}


async def test_the_time_to_live_counts_through_a_restart(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await trained(plane)

    async with control_plane(tmp_path / "s", keep_ended_seconds=DAY) as plane:
        assert await present(plane) == {job.id}
        await plane.clock.advance(DAY + INTERVAL_SECONDS)
        await settle()
        assert await present(plane) == set()


async def test_a_step_of_the_clock_while_the_service_is_down_deletes_nothing(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s", keep_ended_seconds=DAY) as plane:
        job = await trained(plane)
        await plane.clock.advance(INTERVAL_SECONDS)

    async def stepped(plane: Plane) -> None:
        plane.clock.stepped = 10 * DAY

    async with control_plane(
        tmp_path / "s", keep_ended_seconds=DAY, at=2_000.0, before_start=stepped
    ) as plane:
        await plane.clock.advance(INTERVAL_SECONDS)
        await settle()
        assert await present(plane) == {job.id}
        plane.clock.stepped = 0.0
        await plane.clock.advance(DAY)
        await settle()
        assert await present(plane) == set()


async def test_pins_and_labels_of_users_protect_a_job(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", keep_ended_seconds=DAY) as plane:
        pinned, labelled, best = [await trained(plane, best=True) for _ in range(3)]
        await plane.manager.parameters.pin(pinned.id, At(1), pinned=True)
        await plane.manager.parameters.move_label(labelled.id, "live", At(1))

        await plane.clock.advance(2 * DAY)
        await settle()
        assert await present(plane) == {pinned.id, labelled.id}, best.id

        await plane.manager.parameters.pin(pinned.id, At(1), pinned=False)
        await plane.manager.parameters.move_label(labelled.id, "live", None)
        await plane.clock.advance(INTERVAL_SECONDS)
        await settle()
        assert await present(plane) == set()


async def test_an_explicit_deletion_takes_pinned_versions_too(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await trained(plane)
        await plane.manager.parameters.pin(job.id, At(1), pinned=True)

        await plane.manager.lifecycle.delete(job.id)

        assert await present(plane) == set()


async def test_a_quota_deletes_the_oldest_unprotected_jobs_and_logs_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with control_plane(tmp_path / "s", max_disk_bytes=95 * MB) as plane:
        pinned = await trained(plane, size=20 * MB)
        await plane.manager.parameters.pin(pinned.id, At(1), pinned=True)
        jobs = []
        for _ in range(2):
            await plane.clock.advance(60)
            jobs.append(await trained(plane, size=20 * MB))
        await plane.clock.advance(60)
        await settle()
        assert await present(plane) == {pinned.id, *(job.id for job in jobs)}

        live = await begun(plane, size=40 * MB)
        await plane.clock.advance(INTERVAL_SECONDS)
        await settle()

        assert await present(plane) == {pinned.id, jobs[1].id, live.id}
        assert used_bytes(plane.folder.path) <= 95 * MB
        (line,) = [r.getMessage() for r in caplog.records if "deleted" in r.getMessage()]
        assert line.startswith(f"job {jobs[0].id}: deleted: the state folder used 1")
        assert "MB, more than --max-disk 95 MB; it ended 2 min 10 s ago, first of" in line
        assert line.endswith("frees 20 MB")


async def test_a_quota_that_cannot_be_met_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with control_plane(tmp_path / "s", max_disk_bytes=2 * MB) as plane:
        live = await begun(plane, size=3 * MB)
        for _ in range(3):
            await plane.clock.advance(INTERVAL_SECONDS)
            await settle()

        assert await present(plane) == {live.id}
        (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert "more than --max-disk 2 MB, and no ended job is left" in record.getMessage()
        assert "dbp delete JOB" in record.getMessage()


async def test_files_of_ended_jobs_are_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Path] = []

    def noted(folder: Path, **more: Any) -> int:
        measured.append(folder)
        return used_bytes(folder, **more)

    monkeypatch.setattr("dbp.jobs.clean_up.used_bytes", noted)
    async with control_plane(tmp_path / "s", max_disk_bytes=100 * MB) as plane:
        done, live = await trained(plane), await begun(plane)
        for _ in range(5):
            await plane.clock.advance(INTERVAL_SECONDS)
            await settle()

        assert measured.count(plane.folder.job_folder(done.id)) <= 2, "running, then ended"
        assert measured.count(plane.folder.job_folder(live.id)) >= 5


async def test_measuring_holds_up_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = 0.5

    def slowly(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            time.sleep(slow)
            return function(*arguments, **named)

        return call

    async with control_plane(tmp_path / "s", max_disk_bytes=MB) as plane:
        job = await trained(plane, size=2 * MB)
        monkeypatch.setattr("dbp.jobs.clean_up.used_bytes", slowly(used_bytes))
        monkeypatch.setattr(os, "unlink", slowly(os.unlink))
        cleaning = asyncio.create_task(plane.manager.lifecycle._clean_up.delete_due())
        longest, last = 0.0, time.monotonic()
        while not cleaning.done():
            await plane.manager.list()
            longest, last = max(longest, time.monotonic() - last), time.monotonic()

        assert longest < slow
        assert await present(plane) == set(), job.id


async def test_a_pin_that_comes_after_the_listing_protects_a_job(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await trained(plane)
        listed = await plane.store.ended.unprotected()
        await plane.manager.parameters.pin(job.id, At(1), pinned=True)

        assert [ended.id for ended in listed] == [job.id]
        assert not await plane.manager.lifecycle._removal.delete_unprotected(job.id)
        assert await present(plane) == {job.id}


async def test_a_step_of_the_wall_clock_deletes_nothing(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", keep_ended_seconds=DAY) as plane:
        job = await trained(plane)
        for stepped in (10 * DAY, -10 * DAY, 0.0):
            plane.clock.stepped = stepped
            await plane.clock.advance(INTERVAL_SECONDS)
            await settle()
            assert await present(plane) == {job.id}

        await plane.clock.advance(DAY)
        await settle()
        assert await present(plane) == set()


async def test_an_error_of_the_machine_does_not_end_the_clean_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with control_plane(tmp_path / "s", max_disk_bytes=1) as plane:
        with monkeypatch.context() as patch:
            patch.setattr("dbp.jobs.clean_up.used_bytes", fail)
            await trained(plane)
            await plane.clock.advance(INTERVAL_SECONDS)
            await settle()
            assert "ended jobs cannot be deleted now: [Errno 24]" in caplog.text

        await plane.clock.advance(INTERVAL_SECONDS)
        await until(lambda: not list(plane.folder.jobs_folder.iterdir()))
