"""Deleted jobs: durably gone for every reader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dbp.errors import AlreadyExists, JobNotFound, Unauthenticated, WrongState
from dbp.job.state import State, StreamEndReason
from dbp.jobs.link_fence import LinkNumber
from dbp.jobs.recovery import recover
from dbp.jobs.watch_items import Change, End, WatchItem
from dbp.storage.state_folder import StateFolder
from dbp.versions.index import At
from tests.jobs.deletions import everything, trained
from tests.jobs.fakes import Plane, control_plane, settle, spec
from tests.jobs.runs import attach


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with control_plane(tmp_path / "state") as plane:
        yield plane


async def test_a_deleted_job_leaves_neither_rows_nor_files(plane: Plane) -> None:
    job, other = await trained(plane), await trained(plane)

    gone = await plane.manager.lifecycle.delete(job.id)

    assert (gone.id, gone.state) == (job.id, State.SUCCEEDED)
    assert await everything(plane) == [other.id]
    assert not plane.folder.job_folder(job.id).exists()
    assert list(plane.folder.deleted_folder.iterdir()) == []
    assert plane.folder.job_folder(other.id).exists()
    for table in ("attempts", "versions", "label_moves"):
        sql = f"SELECT count(*) FROM {table} WHERE job = ?"
        assert await plane.store._query(sql, job.id) == [(0,)], table
    for question in (
        plane.manager.get(job.id),
        plane.manager.cancel(job.id),
        plane.manager.lifecycle.delete(job.id),
        plane.manager.versions.open(job.id),
        plane.manager.parameters.labels(job.id),
        plane.manager.parameters.history(job.id, 0, ""),
        plane.manager.parameters.move_label(job.id, "live", At(1)),
        plane.manager.log_path(job.id),
        anext(plane.manager.watch(job.id)),
    ):
        with pytest.raises(JobNotFound, match=rf"job {job.id} was deleted; .* dbp jobs"):
            await question
    secret = plane.launcher.requests[0].secret
    with pytest.raises(Unauthenticated):
        await plane.manager.authorize(job.id, LinkNumber(1), secret)


async def test_a_deletion_survives_a_restart(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "state") as plane:
        job = await trained(plane)
        await plane.manager.lifecycle.delete(job.id)

    async with control_plane(tmp_path / "state") as plane:
        assert await everything(plane) == []
        with pytest.raises(JobNotFound, match="was deleted"):
            await plane.manager.get(job.id)


async def test_a_job_that_has_not_ended_cannot_be_deleted(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "state", slots=1) as plane:
        running = await plane.manager.create(spec(), workers=1)
        queued = await plane.manager.create(spec(), workers=1)
        await settle()
        await attach(plane, running)
        for job in (running, queued):
            before = await plane.manager.get(job.id)
            with pytest.raises(
                WrongState, match=rf"is {before.state}: only .*: dbp cancel {job.id}"
            ):
                await plane.manager.lifecycle.delete(job.id)
            assert await plane.manager.get(job.id) == before
        await plane.manager.cancel(running.id)
        with pytest.raises(WrongState, match="is CANCELLING"):
            await plane.manager.lifecycle.delete(running.id)


async def test_the_id_of_a_deleted_job_is_not_used_again(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "state") as plane:
        job = await trained(plane)
        await plane.manager.lifecycle.delete(job.id)
        ids = iter([job.id, "digits-other"])
        plane.manager._admission._new_id = lambda _: next(ids)

        assert (await plane.manager.create(spec(), workers=1)).id == "digits-other"


async def test_the_request_id_of_a_deleted_job_makes_no_second_one(plane: Plane) -> None:
    job = await trained(plane, request_id="once")
    await plane.manager.lifecycle.delete(job.id)

    for workers in (1, 2):
        with pytest.raises(AlreadyExists, match=f"'once' made job {job.id}.* new request_id"):
            await plane.manager.create(spec(), workers=workers, request_id="once")

    assert await everything(plane) == []


@pytest.mark.parametrize("request_id", ["created", "deleted"])
async def test_the_request_ids_of_a_deleted_job_name_it_to_its_owner_alone(
    plane: Plane, request_id: str
) -> None:
    job = await trained(plane, request_id="created", owner="ann")
    await plane.manager.lifecycle.delete(job.id, request_id="deleted")

    for workers in (1, 2):
        with pytest.raises(AlreadyExists, match="belongs to another user") as caught:
            await plane.manager.create(
                spec(), workers=workers, request_id=request_id, owner="bob"
            )
        assert job.id not in str(caught.value)
        with pytest.raises(AlreadyExists, match=job.id):
            await plane.manager.create(
                spec(), workers=workers, request_id=request_id, owner="ann"
            )


async def items(watching: AsyncIterator[WatchItem], until: str) -> list[WatchItem]:
    """The items that a watcher receives, up to a kind of change or the end."""
    found = []
    async for item in watching:
        found.append(item)
        if isinstance(item, End) or (isinstance(item, Change) and item.kind == until):
            break
    return found


async def test_watchers_of_all_jobs_receive_the_deletion(plane: Plane) -> None:
    job = await trained(plane)
    live, late = plane.manager.watch(), plane.manager.watch(None, 1)
    await anext(live)

    await plane.manager.lifecycle.delete(job.id)

    for watching in (live, late):
        *_, last = await items(watching, "deleted")
        assert isinstance(last, Change)
        assert (last.kind, last.job.id, last.job.state) == ("deleted", job.id, "SUCCEEDED")


async def test_a_resumed_watcher_of_a_deleted_job_receives_its_end(plane: Plane) -> None:
    job = await trained(plane)
    await plane.manager.lifecycle.delete(job.id)

    resumed = await items(plane.manager.watch(job.id, 2), "never")

    kinds = [item.kind for item in resumed if isinstance(item, Change)]
    assert kinds == [
        "running", "parameters_published", "parameters_published", "succeeded", "deleted",
    ]  # fmt: skip
    assert resumed[-1] == End(StreamEndReason.JOB_ENDED, resumed[-1].resume)


async def test_a_reader_finishes_what_it_has_open(plane: Plane) -> None:
    job = await trained(plane)
    with await plane.manager.versions.open(job.id) as opened:
        before = opened.read_exactly(0, opened.version.size_bytes)

        await plane.manager.lifecycle.delete(job.id)

        assert opened.read_exactly(0, opened.version.size_bytes) == before
    with pytest.raises(JobNotFound):
        await plane.manager.versions.open(job.id, At(opened.version.version))


async def test_a_reader_that_waits_for_a_label_is_sent_the_deletion(plane: Plane) -> None:
    job = await trained(plane)

    async def labelled() -> bool:
        return bool((await plane.manager.parameters.labels(job.id))[0])

    waiting = asyncio.create_task(
        plane.manager.parameters.wait(job.id, labelled, 60.0, after_end=True)
    )
    await settle()

    await plane.manager.lifecycle.delete(job.id)

    with pytest.raises(JobNotFound):
        await waiting


async def test_a_rebuilt_database_holds_no_deleted_job(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "state") as plane:
        job, other = await trained(plane), await trained(plane)
        await plane.manager.lifecycle.delete(job.id)
    with StateFolder(tmp_path / "state") as folder:
        folder.database_file.write_bytes(b"damaged" * 1000)
        report = recover(folder)
    assert report is not None

    async with control_plane(tmp_path / "state") as plane:
        assert await everything(plane) == [other.id]
        with pytest.raises(JobNotFound, match="was deleted"):
            await plane.manager.get(job.id)
