"""Quotas of owners: jobs that wait or run, and disk space."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.errors import ResourceExhausted
from dbp.jobs import quotas
from tests.jobs.fakes import Plane, control_plane, spec

BYTES = 100_000


async def submit(plane: Plane, owner: str, request_id: str = "") -> str:
    manager = plane.manager
    return (await manager.create(spec(), workers=1, owner=owner, request_id=request_id)).id


async def test_an_owner_has_so_many_jobs_that_wait_or_run(tmp_path: Path) -> None:
    async with control_plane(tmp_path, max_jobs_per_owner=2, slots=1) as plane:
        await submit(plane, "ann")
        second = await submit(plane, "ann")
        with pytest.raises(ResourceExhausted, match="ann has 2 jobs that wait or run, as many"):
            await submit(plane, "ann")
        await submit(plane, "bob")
        await plane.manager.cancel(second)

        await submit(plane, "ann")


async def test_a_run_started_by_hand_counts(tmp_path: Path) -> None:
    async with control_plane(tmp_path, max_jobs_per_owner=1) as plane:
        await submit(plane, "ann")
        with pytest.raises(ResourceExhausted, match="ann has 1 job"):
            await plane.manager.register(
                spec(), workers=1, request_id="r", host="h", owner="ann"
            )


async def test_a_retry_counts(tmp_path: Path) -> None:
    async with control_plane(tmp_path, max_jobs_per_owner=1, slots=1) as plane:
        await submit(plane, "bob")
        first = await submit(plane, "ann")
        plane.launcher.checkpoints[first] = 7
        await plane.manager.cancel(first)
        await submit(plane, "ann")
        with pytest.raises(ResourceExhausted, match="ann has 1 job"):
            await plane.manager.lifecycle.retry(first)


async def test_a_repeated_request_is_answered_at_the_quota(tmp_path: Path) -> None:
    async with control_plane(tmp_path, max_jobs_per_owner=1) as plane:
        first = await submit(plane, "ann", "request")

        assert await submit(plane, "ann", "request") == first


async def test_an_owner_whose_jobs_fill_his_share_of_the_disk_submits_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "MEASURED_SECONDS", 0.0)
    async with control_plane(tmp_path, max_disk_per_owner_bytes=BYTES) as plane:
        first = await submit(plane, "ann")
        folder = plane.folder.job_folder(first)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "version").write_bytes(bytes(BYTES))
        with pytest.raises(ResourceExhausted, match=r"ann use \d+ kB of disk, at most 100 kB"):
            await submit(plane, "ann")
        await submit(plane, "bob")
        await plane.manager.cancel(first, force=True)
