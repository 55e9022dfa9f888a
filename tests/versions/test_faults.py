"""Faults around the versions of a job: damage, a machine that lacks something, rivals."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import CorruptParameters, DataLoss, LabelNotFound, ResourceExhausted, WrongState
from dbp.storage import atomic_file
from dbp.versions import publisher as versions
from dbp.versions import verifier as version_verifier
from dbp.versions.index import At, VersionChange
from tests.jobs.fakes import data, manifest
from tests.versions.shelf import Shelf

LACKING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def failing(number: int) -> Callable[..., Any]:
    """A call that the system refuses."""

    def fail(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number), "/secret/place")

    return fail


async def test_damage_is_seen_though_the_time_of_the_file_is_set_back(shelf: Shelf) -> None:
    await shelf.publish(1)
    (await shelf.versions.open("a")).close()
    path = shelf.place / "1.safetensors"
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(CorruptParameters):
        await shelf.versions.open("a")
    with pytest.raises(CorruptParameters):
        await shelf.versions.describe("a")


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EIO, DataLoss), *((number, ResourceExhausted) for number in LACKING)],
)
async def test_a_failure_to_read_is_reported_and_not_remembered(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    await shelf.publish(1)
    os.utime(shelf.place / "1.safetensors")  # to be verified again
    with monkeypatch.context() as patch:
        patch.setattr(version_verifier, "verified_header", failing(number))
        with pytest.raises(kind, match=os.strerror(number)) as told:
            await shelf.versions.open("a")
    assert "/secret" not in str(told.value)

    with await shelf.versions.open("a") as found:
        assert found.version.version == 1
    assert (await shelf.versions.describe("a"))[0].version == 1


async def test_without_descriptors_nothing_is_called_damaged(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shelf.publish(1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", failing(errno.EMFILE))
        with pytest.raises(ResourceExhausted, match="Too many open files; try again") as told:
            await shelf.versions.open("a")
    assert "/secret" not in str(told.value)

    (shelf.place / "1.safetensors").unlink()
    with pytest.raises(CorruptParameters, match="No such file") as damaged:
        await shelf.versions.open("a")
    assert str(shelf.place) not in str(damaged.value)


@pytest.mark.parametrize("number", [*LACKING, errno.ENOSPC])
async def test_a_version_that_cannot_be_written_now_says_what_is_lacking(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(versions, "write", failing(number))
        with pytest.raises(ResourceExhausted, match=os.strerror(number)) as told:
            await shelf.publish(1)
    assert "/secret" not in str(told.value)
    assert await shelf.kept() == []

    assert (await shelf.publish(1)).version == 1


async def test_a_version_that_cannot_be_recorded_leaves_no_file(shelf: Shelf) -> None:
    await shelf.publish(1)

    async def ended(*_: object) -> None:
        raise WrongState("the job has ended meanwhile")

    shelf.commit = ended
    with pytest.raises(WrongState):
        await shelf.upload(2, manifest(), data())

    assert await shelf.kept() == [1]


async def test_a_version_that_is_recorded_keeps_its_file_whatever_comes_after(
    shelf: Shelf,
) -> None:
    commit = shelf.commit

    async def fail_after_commit(
        job_id: str, change: VersionChange, committed: Callable[[], None]
    ) -> None:
        await commit(job_id, change, committed)
        raise RuntimeError("the change could not be announced")

    shelf.commit = fail_after_commit
    with pytest.raises(RuntimeError):
        await shelf.upload(1, manifest(), data())

    assert [path.name for path in shelf.place.iterdir()] == ["1.safetensors"]
    assert await shelf.store.version_of("a", 1, 1) is not None


async def test_who_is_cancelled_at_the_last_moment_leaves_no_file(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(source: Path, target: Path) -> None:
        loop.call_soon_threadsafe(begun.set)
        atomic_file.rename(source, target)

    monkeypatch.setattr(versions, "rename", slow)
    publishing = asyncio.create_task(shelf.publish(1))
    await begun.wait()
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)

    assert await shelf.kept() == []


async def test_the_best_moves_onto_a_known_version_and_frees_the_one_before(
    shelf: Shelf,
) -> None:
    await shelf.publish(1, best=True, keep=1)
    await shelf.publish(2, keep=1)
    assert await shelf.kept() == [1, 2]

    await shelf.publish(2, best=True, keep=1)

    assert await shelf.kept() == [2]
    assert (await shelf.versions.index("a")).labels == {"best": 2}


async def test_a_label_is_not_moved_to_a_version_deleted_meanwhile(shelf: Shelf) -> None:
    first = await shelf.publish(1, keep=1)
    rest = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        await rest.wait()
        for chunk in data():
            yield chunk

    newer = asyncio.create_task(shelf.upload(2, manifest(), slow(), keep=1))
    await asyncio.sleep(0)
    best = asyncio.create_task(shelf.upload(1, manifest(), data(), keep=1, best=True))
    await asyncio.sleep(0.01)
    rest.set()
    await newer

    assert await best == first
    assert await shelf.kept() == [2]
    with pytest.raises(LabelNotFound):
        (await shelf.versions.index("a")).find(At(label="best"))
