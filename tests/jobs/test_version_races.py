"""Versions and labels that change while commits are slow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dbp.errors import VersionEvicted
from dbp.job.state import Job
from dbp.jobs.watch_items import Change
from dbp.versions.index import At, VersionChange, VersionIndex
from tests.jobs.fakes import Plane, control_plane, data, manifest, spec
from tests.jobs.races import commit_begins, running
from tests.jobs.runs import attach
from tests.storage.slow_commits import SlowCommits


@pytest.fixture
async def plane(tmp_path: Path, slow: SlowCommits) -> AsyncIterator[Plane]:
    async with control_plane(tmp_path / "state", slots=1) as plane:
        yield plane


async def test_a_label_is_at_a_version_that_is_kept_whatever_is_published_meanwhile(
    plane: Plane, slow: SlowCommits
) -> None:
    slow.seconds = 0.002
    job = await plane.manager.create(spec(publish={"keep": 1}), workers=1)
    await attach(plane, job)
    parameters, versions = plane.manager.parameters, plane.manager.versions
    done = asyncio.Event()
    await plane.manager.publisher.publish(
        job.id, 1, step=1, manifest=manifest(), chunks=data(fill=1)
    )
    moved: list[int] = []

    async def publish() -> None:
        for step in range(2, 30):
            await plane.manager.publisher.publish(
                job.id, 1, step=step, manifest=manifest(), chunks=data(fill=step)
            )
        done.set()

    async def label(name: str) -> None:
        while not done.is_set():
            newest = (await parameters.job(job.id)).latest_parameters
            assert newest is not None
            with contextlib.suppress(VersionEvicted):  # it has gone before the label came
                move = await parameters.move_label(job.id, name, At(newest.version))
                moved.append(move.version)
                with await versions.open(job.id, At(label=name)) as opened:
                    assert opened.version.version == move.version
            await asyncio.sleep(0)

    async def read() -> None:
        while not done.is_set():
            with await versions.open(job.id) as opened:
                assert opened.read(opened.data_offset, 1) == bytes([opened.version.step])
            await asyncio.sleep(0)

    await asyncio.gather(publish(), label("a"), label("b"), read())

    assert moved
    index = await plane.store.versions(job.id)
    files = {path.name for path in plane.folder.parameters_folder(job.id).iterdir()}
    assert files == {f"{version.version}.safetensors" for version in index.kept}
    assert await plane.manager.versions.index(job.id) == index


async def test_a_slow_reader_does_not_make_the_versions_before_a_change_stay(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await running(plane)
    await plane.manager.publisher.publish(job.id, 1, step=1, manifest=manifest(), chunks=data())
    versions, rows = plane.manager.versions, plane.store.versions
    has_read, proceed = asyncio.Event(), asyncio.Event()

    async def slow_rows(job_id: str) -> VersionIndex:
        index = await rows(job_id)
        has_read.set()
        await proceed.wait()
        return index

    versions._indexes.clear()  # as if many other jobs had been read meanwhile
    monkeypatch.setattr(plane.store, "versions", slow_rows)
    reading = asyncio.create_task(versions.index(job.id))
    await has_read.wait()
    monkeypatch.setattr(plane.store, "versions", rows)
    await plane.manager.publisher.publish(
        job.id, 1, step=2, manifest=manifest(), chunks=data(fill=1)
    )
    versions._indexes.clear()
    proceed.set()
    await reading

    assert (await plane.manager.versions.find(job.id)).version == 2


async def test_a_publisher_that_goes_away_during_the_commit_has_published(
    plane: Plane, slow: SlowCommits
) -> None:
    job = await running(plane)
    publishing = asyncio.create_task(
        plane.manager.publisher.publish(job.id, 1, step=1, manifest=manifest(), chunks=data())
    )
    await commit_begins(slow)

    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing

    shown = await plane.manager.get(job.id)
    assert shown.latest_parameters is not None
    with await plane.manager.versions.open(job.id) as opened:
        assert opened.version == shown.latest_parameters


async def test_the_history_shows_a_version_once_it_is_announced(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await running(plane)
    publisher, change = plane.manager.publisher, plane.store.change_versions
    await publisher.publish(job.id, 1, step=1, manifest=manifest(), chunks=data())
    stored, proceed = asyncio.Event(), asyncio.Event()

    async def change_and_wait(job: Job, wanted: VersionChange) -> list[Change]:
        changes = await change(job, wanted)
        stored.set()
        await proceed.wait()
        return changes

    monkeypatch.setattr(plane.store, "change_versions", change_and_wait)
    publishing = asyncio.create_task(
        publisher.publish(job.id, 1, step=2, manifest=manifest(), chunks=data())
    )
    await stored.wait()

    entries, _ = await plane.manager.parameters.history(job.id, 0, "")
    assert [(entry.version.version, entry.kept) for entry in entries] == [(1, True)]
    proceed.set()
    await publishing
    entries, _ = await plane.manager.parameters.history(job.id, 0, "")
    assert [(entry.version.version, entry.kept) for entry in entries] == [(2, True), (1, True)]
