"""Rebuild a damaged database from records and older rows."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dbp.errors import JobNotFound, OutOfRange, StateDamaged
from dbp.job.state import EventKind, Job, State
from dbp.jobs.watch_items import Change, JobStatus, WatchItem
from dbp.launch.launcher import Exit
from dbp.storage import replacement
from dbp.versions.index import At
from tests.jobs.damage import opened
from tests.jobs.fakes import FakeLauncher, control_plane, settle, spec
from tests.jobs.lost_database import lose_database, publish, rebuilt
from tests.jobs.runs import attach, ended


async def test_waiting_and_running_jobs_continue_after_a_recovery(
    jobs: tuple[Path, list[Job]],
) -> None:
    path, (running, first, second) = jobs
    lose_database(path)

    report = rebuilt(path)

    assert (report.jobs, report.versions) == (3, 3)
    launcher = FakeLauncher()
    async with control_plane(path, launcher, slots=1) as plane:
        assert [folder.parent.name for folder in launcher.adopted] == [running.id]
        launcher.runs[running.id].write_result("succeeded")
        launcher.runs[running.id].end(Exit(exit_code=0))
        assert (await ended(plane, running.id)).state is State.SUCCEEDED
        assert plane.started == [first.id]
        assert (await plane.manager.get(second.id)).waiting_reason.endswith("1st in the queue")
        index = await plane.store.versions(running.id)
        assert [version.step for version in index.kept][:3] == [10, 20, 30]
        assert index.labels == {"production": 2}
        with await plane.manager.versions.open(running.id, At(2)) as version:
            assert version.manifest.metadata["dbp.version"] == "2"


async def test_request_ids_and_the_order_of_the_queue_survive_a_recovery(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    async with control_plane(path, slots=1) as plane:
        jobs = {
            request: await plane.manager.create(spec(), workers=1, request_id=request)
            for request in ("running", "resumed", "waiting")
        }
        await plane.manager.lifecycle.pause(jobs["resumed"].id)
        await plane.manager.lifecycle.resume(jobs["resumed"].id)
    lose_database(path)
    rebuilt(path)

    async with control_plane(path, slots=1) as plane:
        for request, job in jobs.items():
            again = await plane.manager.create(spec(), workers=1, request_id=request)
            assert again.id == job.id
        for request, place in (("waiting", "1st"), ("resumed", "2nd")):
            reason = (await plane.manager.get(jobs[request].id)).waiting_reason
            assert reason.endswith(f"{place} in the queue")


async def test_watchers_with_an_old_token_are_asked_to_start_over(
    jobs: tuple[Path, list[Job]],
) -> None:
    path, (running, *_) = jobs
    lose_database(path)
    rebuilt(path)

    async with control_plane(path, slots=1) as plane:
        for job_id in (None, running.id):
            for token in (1, 8):
                with pytest.raises(OutOfRange, match="watch again without a token"):
                    await anext(plane.manager.watch(job_id, token))


async def test_a_token_of_an_event_that_no_file_has_is_refused_after_a_recovery(
    jobs: tuple[Path, list[Job]],
) -> None:
    """The database is lost, and the records are older: a power cut, or a full disk."""
    path, (running, *_) = jobs
    older = path.with_name("older")
    shutil.copytree(path / "records", older)
    async with control_plane(path, slots=1) as plane:
        await publish(plane, running, *range(40, 60))
        token = (await plane.store.sequence_range())[1]
    shutil.rmtree(path / "records")
    older.rename(path / "records")
    lose_database(path)
    rebuilt(path)

    async with control_plane(path, slots=1) as plane:
        await publish(plane, running, *range(60, 90))
        for job_id in (None, running.id):
            with pytest.raises(OutOfRange, match="watch again without a token"):
                await anext(plane.manager.watch(job_id, token))
            assert isinstance(await anext(plane.manager.watch(job_id)), JobStatus)


async def test_old_tokens_are_refused_though_no_job_could_be_rebuilt(
    jobs: tuple[Path, list[Job]],
) -> None:
    path, _ = jobs
    lose_database(path)
    shutil.rmtree(path / "records")
    assert rebuilt(path).jobs == 0

    async with control_plane(path, slots=1) as plane:
        first = asyncio.create_task(_first_change(plane.manager.watch()))
        await settle()
        for _ in range(20):
            await plane.manager.create(spec(), workers=1)
        with pytest.raises(OutOfRange, match="watch again without a token"):
            await anext(plane.manager.watch(None, 8))

        assert (await first).kind is EventKind.CREATED


async def _first_change(items: AsyncIterator[WatchItem]) -> Change:
    async for item in items:
        if isinstance(item, Change):
            return item
    raise AssertionError("the stream ended")


async def test_a_token_of_all_jobs_stays_valid_after_a_job_is_deleted(
    jobs: tuple[Path, list[Job]],
) -> None:
    path, (_, second, _) = jobs
    async with control_plane(path, slots=1) as plane:
        oldest, newest = await plane.store.sequence_range()
        await plane.manager.cancel(second.id)
        await plane.manager.lifecycle.delete(second.id)

        for token in range(max(1, oldest), newest + 3):
            item = await anext(plane.manager.watch(None, token))
            if token < newest + 2:
                assert isinstance(item, Change)
                assert item.sequence == token + 1


async def test_the_damaged_files_are_kept_each_time(jobs: tuple[Path, list[Job]]) -> None:
    path, _ = jobs
    for number in (1, 2):
        content = (path / "dbp.sqlite").read_bytes()
        damaged = content.replace(b"QUEUED", b"QUEUES")
        (path / "dbp.sqlite").write_bytes(damaged)
        report = rebuilt(path)
        assert report.kept == (
            path / f"dbp.sqlite.damaged-{number}", path / f"dbp.sequence.damaged-{number}",
        )  # fmt: skip
        assert report.kept[0].read_bytes() == damaged
        assert "do not match their digest" in report.damage


async def test_a_restored_backup_is_merged_with_newer_records(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with control_plane(path, slots=1) as plane:
        old = await plane.manager.create(spec(), workers=1)
        await settle()
        await attach(plane, old)
        await publish(plane, old, *range(1, 30))
    backup = (path / "dbp.sqlite").read_bytes()
    async with control_plane(path, slots=1) as plane:
        new = await plane.manager.create(spec(), workers=1)
        await plane.manager.cancel(new.id)
        await attach(plane, old)
        await publish(plane, old, 30)
        expected = await plane.store.lineage(old.id, limit=100, before=100)
    (path / "dbp.sqlite").write_bytes(backup)

    with pytest.raises(StateDamaged):
        await opened(path)
    rebuilt(path)

    async with control_plane(path, slots=1) as plane:
        assert (await plane.manager.get(new.id)).state is State.CANCELLED
        assert (await plane.manager.get(old.id)).state is State.RUNNING
        lineage = await plane.store.lineage(old.id, limit=100, before=100)
        assert lineage == expected
        assert len(lineage) == 30, "entries of evicted versions come from the backup"


@pytest.mark.parametrize("step", ["_build", "_keep", "rename"])
async def test_a_recovery_that_is_interrupted_can_be_repeated(
    jobs: tuple[Path, list[Job]], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path, _ = jobs
    expected = await opened(path)
    database = path / "dbp.sqlite"
    database.write_bytes(database.read_bytes()[:-4096])

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(replacement, step, killed)
        with pytest.raises(KeyboardInterrupt):
            rebuilt(path)

    with pytest.raises(StateDamaged):
        await opened(path)
    rebuilt(path)
    assert await opened(path) == expected


async def test_a_recovery_whose_new_database_counts_is_finished(
    jobs: tuple[Path, list[Job]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = jobs
    expected = await opened(path)
    database = path / "dbp.sqlite"
    database.write_bytes(database.read_bytes()[:-4096])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(replacement, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            rebuilt(path)
    with pytest.raises(StateDamaged):
        await opened(path)
    for record in (path / "records").iterdir():  # a power cut: they were not written back
        record.write_bytes(b"")

    report = rebuilt(path)

    assert (report.jobs, report.versions, report.kept) == (3, 3, ())
    assert "earlier recovery" in report.notes[0]
    assert await opened(path) == expected


async def test_the_kept_mark_of_a_damaged_database_does_not_change_later(
    jobs: tuple[Path, list[Job]],
) -> None:
    path, _ = jobs
    mark = (path / "dbp.sequence").read_bytes()
    lose = path / "dbp.sqlite"
    lose.write_bytes(lose.read_bytes().replace(b"QUEUED", b"QUEUES"))
    rebuilt(path)

    async with control_plane(path, slots=1) as plane:
        await plane.manager.create(spec(), workers=1)

    assert (path / "dbp.sequence.damaged-1").read_bytes() == mark


@pytest.mark.parametrize("lost", ["database", "records"])
async def test_a_deleted_job_stays_deleted(tmp_path: Path, lost: str) -> None:
    path = tmp_path / "s"
    async with control_plane(path, slots=1) as plane:
        jobs = [await plane.manager.create(spec(), workers=1) for _ in range(3)]
        await plane.manager.cancel(jobs[2].id)
        await plane.manager.lifecycle.delete(jobs[2].id)
    if lost == "database":
        lose_database(path)
    else:
        shutil.rmtree(path / "records")
        (path / "jobs" / "stranger" / "attempt-1").mkdir(parents=True)

    rebuilt(path)

    async with control_plane(path, slots=1) as plane:
        with pytest.raises(JobNotFound):
            await plane.manager.get(jobs[2].id)
        if lost == "database":
            assert len(await plane.store.live()) == 2
