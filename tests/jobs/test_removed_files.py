"""The files of deleted jobs go, whoever leaves and whatever fails meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import JobNotFound
from dbp.storage.state_folder import StateFolder
from tests.deadline import DEADLINE
from tests.jobs.deletions import deleted_jobs, everything, known_jobs, trained
from tests.jobs.fakes import Plane, control_plane, settle


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with control_plane(tmp_path / "state") as plane:
        yield plane


async def delay_append(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, go_on: asyncio.Event
) -> None:
    """Return from the store's ``append`` long after the commit."""
    append = plane.store.append

    async def delayed(*args: Any, **fields: Any) -> Any:
        change = await append(*args, **fields)
        await go_on.wait()
        return change

    monkeypatch.setattr(plane.store, "append", delayed)


async def delay_uploads(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, go_on: asyncio.Event
) -> None:
    """Leave an upload of the job under way."""

    async def delayed(job_id: str, limit: float) -> None:
        await go_on.wait()

    monkeypatch.setattr(plane.manager.publisher, "settled", delayed)


async def cancelled_deletion(plane: Plane, job_id: str, go_on: asyncio.Event, how: str) -> None:
    """Cancel a deletion once it is committed."""
    lifecycle = plane.manager.lifecycle
    work: Any = {
        "delete": lambda: lifecycle.delete(job_id, request_id="d"),
        "clean up": lambda: lifecycle._removal.delete_unprotected(job_id),
    }[how]
    deleting = asyncio.create_task(work())
    async with asyncio.timeout(DEADLINE):
        while not await plane.store.ended.deleted([job_id]):
            await asyncio.sleep(0.01)
    deleting.cancel()
    await settle()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await deleting


@pytest.mark.usefixtures("soon_forgotten")
@pytest.mark.parametrize("delay", [delay_append, delay_uploads])
@pytest.mark.parametrize("how", ["delete", "clean up"])
async def test_a_cancel_after_the_commit_of_a_deletion_leaves_no_files(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, delay: Any, how: str
) -> None:
    plane.store._events_kept = 1
    job = await trained(plane)
    go_on = asyncio.Event()
    await delay(plane, monkeypatch, go_on)

    await cancelled_deletion(plane, job.id, go_on, how)

    async with asyncio.timeout(DEADLINE):
        while plane.manager.lifecycle._removal._removing:
            await asyncio.sleep(0.01)
    assert not plane.folder.job_folder(job.id).exists()
    others = await deleted_jobs(plane, 2)
    assert await known_jobs(plane) == others, "the row was forgotten, which files prevent"


async def test_a_repeated_deletion_waits_for_the_removal_of_the_files(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await trained(plane)
    go_on = asyncio.Event()
    await delay_uploads(plane, monkeypatch, go_on)
    first = asyncio.create_task(plane.manager.lifecycle.delete(job.id, request_id="d"))
    async with asyncio.timeout(DEADLINE):
        while not await plane.store.ended.deleted([job.id]):
            await asyncio.sleep(0.01)
    again = asyncio.create_task(plane.manager.lifecycle.delete(job.id, request_id="d"))
    await settle()
    try:
        assert not again.done()
        first.cancel()
        await settle()
    finally:
        go_on.set()

    assert (await again).id == job.id
    assert not plane.folder.job_folder(job.id).exists()


async def test_a_repeated_deletion_removes_files_that_the_first_left(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(5, "killed")

    job = await trained(plane)
    with monkeypatch.context() as patched:
        patched.setattr("dbp.jobs.removal.remove_folder", fail)
        patched.setattr(StateFolder, "discard", fail)
        await plane.manager.lifecycle.delete(job.id, request_id="d")
    assert plane.folder.job_folder(job.id).exists()

    await plane.manager.lifecycle.delete(job.id, request_id="d")

    assert not plane.folder.job_folder(job.id).exists()


async def test_the_service_ends_after_the_deletions_that_have_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()
    async with control_plane(tmp_path / "state") as plane:
        job = await trained(plane)
        await delay_uploads(plane, monkeypatch, go_on)
        deleting = asyncio.create_task(plane.manager.lifecycle.delete(job.id))
        async with asyncio.timeout(DEADLINE):
            while not await plane.store.ended.deleted([job.id]):
                await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_later(0.1, go_on.set)

    assert not plane.folder.job_folder(job.id).exists()
    assert (await deleting).id == job.id


@pytest.mark.parametrize("step", ["discard", "remove_folder"])
async def test_files_that_a_kill_leaves_are_removed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(5, "killed")

    async with control_plane(tmp_path / "state") as plane:
        job, other = await trained(plane), await trained(plane)
        with monkeypatch.context() as patched:
            patched.setattr("dbp.jobs.removal.remove_folder", fail)
            if step == "discard":
                patched.setattr(StateFolder, step, fail)
            await plane.manager.lifecycle.delete(job.id)
        left = list((tmp_path / "state").rglob("state.safetensors"))
        assert len(left) == 2
        with pytest.raises(JobNotFound):
            await plane.manager.get(job.id)

    async with control_plane(tmp_path / "state") as plane:
        await settle()
        (kept,) = (tmp_path / "state").rglob("state.safetensors")
        assert kept.is_relative_to(plane.folder.job_folder(other.id))
        assert await everything(plane) == [other.id]


async def test_folders_of_unknown_jobs_stay(plane: Plane) -> None:
    foreign = plane.folder.job_folder("digits-foreign")
    foreign.mkdir(parents=True)

    await plane.manager.lifecycle._removal.sweep()

    assert foreign.exists()


async def test_a_folder_that_cannot_be_moved_is_removed_where_it_is(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    job = await trained(plane)
    monkeypatch.setattr(StateFolder, "discard", full)

    await plane.manager.lifecycle.delete(job.id)

    assert not plane.folder.job_folder(job.id).exists()
