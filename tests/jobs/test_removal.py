"""Deleted jobs: durably gone for every reader, with all their files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import AlreadyExists, DiskFull, JobNotFound, Unauthenticated, WrongState
from dbp.job.state import Job, State, StreamEndReason
from dbp.jobs.link_fence import LinkNumber
from dbp.jobs.recovery import recover
from dbp.jobs.watch_items import Change, End, WatchItem
from dbp.storage.state_folder import StateFolder
from dbp.versions.index import At
from tests.deadline import DEADLINE
from tests.jobs.fakes import Plane, control_plane, data, manifest, settle, spec
from tests.jobs.runs import attach, ended, finish


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with control_plane(tmp_path / "state") as plane:
        yield plane


async def trained(plane: Plane, name: str = "digits", **request: Any) -> Job:
    """A job that has ended, with two versions and some files."""
    job = await plane.manager.create(spec(name), workers=1, **request)
    await settle()
    await attach(plane, job)
    for step in (1, 2):
        await plane.manager.publisher.publish(
            job.id, 1, step=step, manifest=manifest(), chunks=data(), final=step == 2
        )
    checkpoint = plane.folder.job_folder(job.id) / "run" / "checkpoints" / "step-2"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.safetensors").write_bytes(bytes(1000))
    finish(plane, job.id)
    return await ended(plane, job.id)


async def everything(plane: Plane) -> list[str]:
    """Ids of all jobs that are listed."""
    return [job.id for job in (await plane.manager.list())[0]]


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


async def test_the_id_of_a_deleted_job_is_never_used_again(tmp_path: Path) -> None:
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
    assert not again.done()
    first.cancel()
    await settle()
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


@pytest.fixture
def soon_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two deleted jobs stay known; their events do not."""
    monkeypatch.setattr("dbp.jobs.event_table._PRUNE_EVERY", 1)
    monkeypatch.setattr("dbp.jobs.ended_jobs.DELETED_KEPT", 2)
    monkeypatch.setattr("dbp.jobs.removal.FORGET_EVERY", 1)


def records(plane: Plane) -> set[str]:
    """Names of the record files of jobs."""
    return {path.name for path in plane.folder.records_folder.iterdir()}


async def deleted_jobs(plane: Plane, count: int, prefix: str = "r") -> list[str]:
    """Ids of jobs that were deleted, in this order, with a request id each."""
    jobs = [await trained(plane, request_id=f"{prefix}{number}") for number in range(count)]
    for job in jobs:
        await plane.manager.lifecycle.delete(job.id, request_id=f"d-{job.id}")
    return [job.id for job in jobs]


async def known_jobs(plane: Plane) -> list[str]:
    rows = await plane.store._query("SELECT id FROM jobs ORDER BY number")
    return [job_id for (job_id,) in rows]


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
