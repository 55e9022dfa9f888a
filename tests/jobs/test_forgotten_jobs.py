"""Of deleted jobs the newest stay known; older ones leave no rows and no records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import AlreadyExists, DiskFull, JobNotFound
from tests.jobs.deletions import deleted_jobs, known_jobs, trained
from tests.jobs.fakes import Plane, control_plane, spec


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with control_plane(tmp_path / "state") as plane:
        yield plane


def records(plane: Plane) -> set[str]:
    """Names of the record files of jobs."""
    return {path.name for path in plane.folder.records_folder.iterdir()}


@pytest.mark.usefixtures("soon_forgotten")
async def test_the_oldest_deleted_jobs_leave_neither_rows_nor_records(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "state") as plane:
        plane.store._events_kept = 1
        live = await trained(plane)

        gone = await deleted_jobs(plane, 5)

        assert await known_jobs(plane) == [live.id, *gone[-2:]]
        requests = await plane.store._query("SELECT DISTINCT job FROM requests ORDER BY job")
        assert requests == sorted((job_id,) for job_id in gone[-2:])
        kept = {live.id, *gone[-2:]}
        assert records(plane) == {
            f"{j}{end}" for j in kept for end in (".json", ".versions.json")
        }
        with pytest.raises(JobNotFound, match="there is no such job"):
            await plane.manager.lifecycle.delete(gone[0], request_id=f"d-{gone[0]}")
        with pytest.raises(AlreadyExists, match="was deleted"):
            await plane.manager.create(spec(), workers=1, request_id="r4")
    async with control_plane(tmp_path / "state") as plane:
        assert await known_jobs(plane) == [live.id, *gone[-2:]]


@pytest.mark.usefixtures("soon_forgotten")
async def test_a_deleted_job_stays_known_while_its_events_or_files_are_there(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await deleted_jobs(plane, 4)
    assert await known_jobs(plane) == first, "with events"

    plane.store._events_kept = 1
    plane.folder.job_folder(first[0]).mkdir()
    others = await deleted_jobs(plane, 2, "s")
    assert await known_jobs(plane) == [first[0], *others], "with files"

    await plane.manager.lifecycle._removal.sweep()
    assert await known_jobs(plane) == others


@pytest.mark.usefixtures("soon_forgotten")
async def test_a_kill_before_the_record_of_a_forgotten_job_is_removed_is_no_damage(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "state") as plane:
        plane.store._events_kept = 1
        await deleted_jobs(plane, 2)
        (gone, *_) = await known_jobs(plane)
        left = {
            path: path.read_bytes() for path in plane.folder.records_folder.glob(f"{gone}.*")
        }
        await deleted_jobs(plane, 2, "s")
        assert not records(plane) & {path.name for path in left}
        for path, content in left.items():
            path.write_bytes(content)

    async with control_plane(tmp_path / "state") as plane:
        assert gone not in await known_jobs(plane)
        await trained(plane)  # the next change

        assert not records(plane) & {path.name for path in left}


@pytest.mark.usefixtures("soon_forgotten")
async def test_a_full_disk_fails_no_deletion(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(*_: Any) -> int:
        raise DiskFull("the disk is full")

    monkeypatch.setattr("dbp.jobs.ended_jobs.EndedJobs.forget_oldest", full)

    await deleted_jobs(plane, 3)

    assert "deleted jobs stay in the database: the disk is full" in caplog.text
