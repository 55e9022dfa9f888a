from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import (
    DataLoss,
    InvalidFile,
    InvalidInput,
    NotFound,
    OutOfRange,
    VersionEvicted,
    VersionNotFound,
    WrongState,
)
from dbp.job.snapshot import Manifest, TensorInfo, encode_header
from dbp.job.state import Event, EventKind, Version
from dbp.versions import tables as store_versions
from dbp.versions.index import At
from tests.jobs.fakes import data, manifest
from tests.versions.shelf import Shelf


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    opened = await Shelf.opened(tmp_path / "state")
    yield opened
    opened.close()


async def test_a_published_version_is_a_safetensors_file(shelf: Shelf) -> None:
    version = await shelf.publish(5)

    with await shelf.versions.open("a") as found:
        content = found.read(0, 10_000)
        assert content == encode_header(found.manifest) + b"\x05" * 16
        assert found.version == version
        assert found.manifest.tensors == manifest().tensors
        assert found.manifest.metadata == {
            **manifest().metadata,
            "dbp.job": "a",
            "dbp.version": "1",
            "dbp.step": "5",
            "dbp.attempt": "1",
            "dbp.previous_digest": "",
        }
        assert content[found.data_offset :] == b"\x05" * 16
    digest = hashlib.sha256(content).hexdigest()
    assert version == Version(1, 5, 1, digest, len(content), 9.0, spec_digest="feed")
    assert found.path.stat().st_mode & 0o777 == 0o600


async def test_chunks_may_come_from_a_stream_of_any_sizes(shelf: Shelf) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for size in (1, 3_000_000, 0, 999_999):
            yield b"x" * size

    version = await shelf.upload(1, manifest(1_000_000), stream())

    with await shelf.versions.open("a") as found:
        assert hashlib.sha256(found.path.read_bytes()).hexdigest() == version.digest
        assert found.path.stat().st_size == version.size_bytes


async def test_the_same_step_again_is_the_same_version(shelf: Shelf) -> None:
    first = await shelf.publish(5)

    assert await shelf.publish(5) == first
    assert (await shelf.store.get("a")).latest_parameters == first


async def test_a_step_published_again_as_the_final_one_becomes_final(shelf: Shelf) -> None:
    first = await shelf.publish(5)

    final = await shelf.publish(5, final=True)

    assert final == dataclasses.replace(first, final=True)
    assert await shelf.publish(5) == final
    assert (await shelf.store.versions("a")).kept == (final,)


async def test_publications_and_label_moves_leave_no_locks(shelf: Shelf) -> None:
    for step in range(1, 4):
        await asyncio.gather(shelf.publish(step), shelf.publish(step))
        await shelf.move("stable", step)

    assert not shelf.publisher._publishing
    assert not shelf.versions._changing


async def test_index_after_changes_is_the_index_of_the_stored_rows(shelf: Shelf) -> None:
    for step in range(1, 6):
        await shelf.publish(step, best=step in (2, 4), keep=2)
        await shelf.move(f"label-{step % 2}", step, keep=2, time=float(step))
        assert await shelf.versions.index("a") == await shelf.store.versions("a")
    await shelf.publish(5, final=True, keep=2)
    await shelf.pin(5, pinned=True, keep=2)
    for label, version in (("label-1", 0), ("label-1", 0), ("best", 2), ("label-0", 5)):
        await shelf.move(label, version, keep=1, time=9.0)
        assert await shelf.versions.index("a") == await shelf.store.versions("a")
    await shelf.pin(5, pinned=False, keep=1)
    await shelf.publish(6, keep=1)

    assert await shelf.versions.index("a") == await shelf.store.versions("a")
    assert await shelf.kept() == [2, 4, 5, 6]


async def test_one_step_published_twice_at_once_is_one_version(shelf: Shelf) -> None:
    both = await asyncio.gather(shelf.publish(5), shelf.publish(5))

    assert both[0] == both[1]
    assert sorted(path.name for path in shelf.place.iterdir()) == ["1.safetensors"]


async def test_the_newest_and_the_final_are_kept(shelf: Shelf) -> None:
    await shelf.publish(0, final=True)
    for step in range(1, 6):
        await shelf.publish(step, keep=2)

    assert await shelf.kept() == [1, 5, 6]
    with pytest.raises(OutOfRange, match="version 3 is no longer kept; kept: 1, 5, 6"):
        await shelf.versions.open("a", At(3))
    with pytest.raises(NotFound, match="the newest is 6"):
        await shelf.versions.open("a", At(7))


async def test_a_version_is_not_taken_from_its_reader(shelf: Shelf) -> None:
    await shelf.publish(1, keep=1)
    found = await shelf.versions.open("a")

    await shelf.publish(2, keep=1)

    assert not found.path.exists()
    content = found.read(0, 10_000)
    assert hashlib.sha256(content).hexdigest() == found.version.digest
    found.close()


async def test_before_the_first_version_the_state_is_wrong(shelf: Shelf) -> None:
    with pytest.raises(WrongState, match="no parameters are published yet"):
        await shelf.versions.open("a")


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([b"x" * 15], "15 of the manifest's 16 bytes"),
        ([b"x" * 10, b"x" * 7], "more than the 16 bytes"),
        ([], "0 of the manifest's 16 bytes"),
    ],
)
async def test_short_and_long_data_leave_nothing(
    shelf: Shelf, chunks: list[bytes], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        await shelf.upload(1, manifest(), chunks)

    assert list(shelf.place.iterdir()) == []
    assert await shelf.kept() == []


@pytest.mark.parametrize(
    "tensors",
    [
        (TensorInfo("w", "F31", (2,), 0),),
        (TensorInfo("w", "F32", (-2,), 0),),
        (TensorInfo("w", "F32", (2,), 4),),
        (TensorInfo("w", "F32", (2,), 0), TensorInfo("b", "F32", (2,), 4)),
    ],
)
async def test_a_manifest_that_makes_no_sense_is_refused(
    shelf: Shelf, tensors: tuple[TensorInfo, ...]
) -> None:
    with pytest.raises((InvalidInput, InvalidFile)):
        await shelf.upload(1, Manifest(tensors), [b"x" * 8])


@pytest.mark.parametrize("place", [0, 20, -1])
async def test_a_damaged_file_is_never_served(shelf: Shelf, place: int) -> None:
    await shelf.publish(1)
    (await shelf.versions.open("a")).close()
    path = shelf.place / "1.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)

    with pytest.raises(DataLoss, match="version 1 is damaged"):
        await shelf.versions.open("a")


async def test_a_short_or_missing_file_is_never_served(shelf: Shelf) -> None:
    await shelf.publish(1)
    path = shelf.place / "1.safetensors"
    os.truncate(path, 30)

    with pytest.raises(DataLoss):
        await shelf.versions.open("a")
    path.unlink()
    with pytest.raises(DataLoss):
        await shelf.versions.open("a")


async def test_readers_see_only_complete_versions_while_200_are_published(
    shelf: Shelf,
) -> None:
    await shelf.publish(0)
    seen: set[int] = set()
    publishing = True

    async def read_all_the_time() -> None:
        while publishing:
            with await shelf.versions.open("a") as found:
                content = await asyncio.to_thread(found.read, 0, 10_000_000)
            assert hashlib.sha256(content).hexdigest() == found.version.digest
            assert len(set(content[found.data_offset :])) == 1
            seen.add(found.version.version)
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read_all_the_time()) for _ in range(3)]
    for step in range(1, 201):
        await shelf.publish(step, keep=2, values=20_000)
    publishing = False
    await asyncio.gather(*readers)

    assert len(seen) > 10
    assert len(list(shelf.place.iterdir())) == 2


# Publishes for ever, and is killed at the named call of the named module.
PUBLISH_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from dbp.versions import file as version_file
from dbp.versions import publisher as versions
from tests.versions.test_store import Shelf

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

shelf = asyncio.run(Shelf.opened(Path(sys.argv[1])))
if sys.argv[2] == "rename":
    versions.rename = die
elif sys.argv[2] == "row":
    shelf.commit = die
asyncio.run(shelf.publish(2, values=1_000_000))
"""


@pytest.mark.parametrize("point", ["rename", "row"])
async def test_a_kill_during_publication_leaves_no_visible_version(
    tmp_path: Path, point: str
) -> None:
    shelf = await Shelf.opened(tmp_path / "state")
    first = await shelf.publish(1)
    shelf.close()

    died = subprocess.run(
        [sys.executable, "-c", PUBLISH_AND_DIE, str(tmp_path / "state"), point],
        cwd=Path(__file__).parents[2],
    )

    shelf = await Shelf.opened(tmp_path / "state")
    assert died.returncode == -signal.SIGKILL
    assert len(list(shelf.place.iterdir())) == 2, "the point was reached"
    await shelf.versions.sweep("a")
    assert [path.name for path in shelf.place.iterdir()] == ["1.safetensors"]
    with await shelf.versions.open("a") as found:
        assert found.version == first
    assert (await shelf.publish(2)).version == 2
    shelf.close()


# Publishes one version more than are kept, and is killed before the deletion of the first.
EVICT_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from dbp.versions import store as versions
from tests.versions.test_store import Shelf

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

versions.delete = die
shelf = asyncio.run(Shelf.opened(Path(sys.argv[1])))
asyncio.run(shelf.publish(2, keep=1))
"""


async def test_the_file_of_an_evicted_version_of_an_ended_job_is_swept(tmp_path: Path) -> None:
    shelf = await Shelf.opened(tmp_path / "state")
    await shelf.publish(1, keep=1)
    shelf.close()
    died = subprocess.run(
        [sys.executable, "-c", EVICT_AND_DIE, str(tmp_path / "state")],
        cwd=Path(__file__).parents[2],
    )
    assert died.returncode == -signal.SIGKILL
    shelf = await Shelf.opened(tmp_path / "state")
    (job,) = await shelf.store.live()
    await shelf.store.append(job, Event(EventKind.CANCELLED, 0.0))
    assert len(list(shelf.place.iterdir())) == 2, "the point was reached"
    (shelf.place / "3.safetensors").touch()  # as if a version were on its way

    await shelf.versions.sweep_evicted()

    assert {path.name for path in shelf.place.iterdir()} == {"2.safetensors", "3.safetensors"}
    shelf.close()


async def test_a_run_s_own_file_can_be_published(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "parameters.safetensors"
    path.write_bytes(encode_header(manifest(kind="test")) + b"z" * 16)

    version = await shelf.publisher.publish_file("a", 1, path, step=9, best=False)

    with await shelf.versions.open("a") as found:
        assert found.read(found.data_offset, 1_000) == b"z" * 16
        assert found.manifest.metadata.items() >= manifest(kind="test").metadata.items()
    assert version.final


async def test_versions_are_a_chain_of_digests(shelf: Shelf) -> None:
    published = [await shelf.publish(step, keep=2) for step in range(1, 6)]

    assert published[0].previous_digest == ""
    for before, after in itertools.pairwise(published):
        assert after.previous_digest == before.digest
    with await shelf.versions.open("a") as found:
        assert found.manifest.metadata["dbp.previous_digest"] == published[3].digest
    lineage = await shelf.store.lineage("a", limit=10, before=2**62)
    assert lineage == published[::-1]
    assert await shelf.kept() == [4, 5]


async def test_the_best_pinned_and_labelled_are_kept_too(shelf: Shelf) -> None:
    for step in range(1, 4):
        await shelf.publish(step, best=step == 2, keep=3)
    await shelf.pin(1, pinned=True, keep=3)
    await shelf.move("stable", 3, time=1.0, keep=3)
    for step in range(4, 9):
        await shelf.publish(step, keep=2)

    assert await shelf.kept() == [1, 2, 3, 7, 8]
    assert (await shelf.versions.index("a")).labels == {"best": 2, "stable": 3}
    assert (await shelf.versions.index("a")).find(At(label="best")).step == 2
    await shelf.publish(9, best=True, keep=2)
    assert await shelf.kept() == [1, 3, 8, 9], "the version that was best before has gone"
    await shelf.move("stable", 8, time=2.0, keep=2)
    assert await shelf.kept() == [1, 3, 8, 9], "3 is the version that an undo needs"
    await shelf.move("stable", 0, time=3.0, keep=2)
    await shelf.pin(1, pinned=False, keep=2)
    assert await shelf.kept() == [8, 9]
    moves = (await shelf.store.labels("a", moves=10))[1]
    assert [(move.label, move.version) for move in moves] == [
        ("best", 2), ("stable", 3), ("best", 9), ("stable", 8), ("stable", 0),
    ]  # fmt: skip


async def test_a_step_that_turns_out_to_be_the_best_is_labelled(shelf: Shelf) -> None:
    first = await shelf.publish(1)

    assert await shelf.publish(1, best=True) == first

    assert (await shelf.versions.index("a")).labels == {"best": 1}


async def test_labels_and_pins_survive_a_restart(tmp_path: Path) -> None:
    shelf = await Shelf.opened(tmp_path / "state")
    await shelf.publish(1, best=True)
    await shelf.publish(2)
    await shelf.pin(2, pinned=True, keep=3)
    before = await shelf.versions.index("a")
    shelf.close()

    shelf = await Shelf.opened(tmp_path / "state")

    assert await shelf.versions.index("a") == before
    assert dict(before.labels) == {"best": 1}
    assert before.pinned == frozenset({2})
    shelf.close()


async def test_latest_is_a_name_of_the_newest(shelf: Shelf) -> None:
    await shelf.publish(1)
    newest = await shelf.publish(2)

    for name in ("latest", "newest"):
        assert (await shelf.versions.index("a")).find(At(label=name)) == newest


async def test_of_many_moves_the_last_ones_stay_and_those_that_say_where_labels_are(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_versions, "MOVES_KEPT", 10)
    for step in (1, 2):
        await shelf.publish(step)
    move = partial(shelf.move, keep=3)
    await move("stable", 1, time=1.0)
    await move("removed", 1, time=2.0)
    await move("removed", 0, time=3.0)
    await move("gone", 1, time=4.0)
    await move("gone", 0, time=5.0)
    await move("gone", 0, time=6.0)

    for number in range(100):
        await move("live", 1 + number % 2, time=10.0 + number)

    index = await shelf.versions.index("a")
    moves = (await shelf.store.labels("a", moves=1_000))[1]
    assert index.labels == {"stable": 1, "live": 2}
    assert index.left == {"live": 1, "removed": 1}, "moves that can be undone stay"
    assert index.moved == {"stable": 1.0, "removed": 3.0, "live": 109.0}
    assert 10 <= len(moves) <= 22
    assert [move.label for move in moves[:3]] == ["stable", "removed", "live"]
    assert [move.time for move in moves] == sorted(move.time for move in moves)
    assert moves[-1].time == 109.0


async def test_a_step_that_is_taken_again_after_a_rollback_is_another_version(
    shelf: Shelf,
) -> None:
    await shelf.publish(5, best=True)
    await shelf.publish(9)

    again = await shelf.publish(5, rollbacks="1", best=True)
    same = await shelf.publish(5, rollbacks="1", best=True)
    final = await shelf.publish(9, rollbacks="1", final=True)

    assert (again.version, again.rollbacks, final.version) == (3, 1, 4)
    assert same == again
    assert final.previous_digest == again.digest
    index = await shelf.versions.index("a")
    assert index.labels == {"best": 3}
    with await shelf.versions.open("a") as found:
        assert found.version == final
        assert found.read(found.data_offset, 1) == bytes([109])
    with await shelf.versions.open("a", At(step=5)) as found:
        assert found.read(found.data_offset, 1) == bytes([105]), "what counts is the newest"


async def test_the_final_version_of_an_earlier_step_is_the_newest_and_of_its_bits(
    shelf: Shelf,
) -> None:
    best = await shelf.publish(5, best=True)
    await shelf.publish(9)

    final = await shelf.publish(5, best=True, final=True)
    again = await shelf.publish(5, best=True, final=True)

    assert (best.version, final.version, final.step, final.final) == (1, 3, 5, True)
    assert again == final
    assert [v.final for v in (await shelf.store.versions("a")).kept] == [False, False, True]
    assert (await shelf.versions.index("a")).labels == {"best": 3}
    with await shelf.versions.open("a") as newest, await shelf.versions.open("a", At(1)) as old:
        assert newest.version == final
        data = [f.read(f.data_offset, f.manifest.size_bytes) for f in (newest, old)]
        assert data[0] == data[1]


async def test_the_newest_version_becomes_final_without_a_second_one(shelf: Shelf) -> None:
    await shelf.publish(3)
    await shelf.publish(5, best=True)

    final = await shelf.publish(5, final=True)

    assert (final.version, final.final) == (2, True)
    assert await shelf.kept() == [1, 2]


async def test_a_final_version_that_cannot_be_recorded_leaves_no_file(shelf: Shelf) -> None:
    await shelf.publish(5, best=True)
    await shelf.publish(9)

    async def refuse(*_: object) -> None:
        raise WrongState("no")

    shelf.commit = refuse
    with pytest.raises(WrongState):
        await shelf.upload(5, manifest(), data(4), final=True)

    assert await shelf.kept() == [1, 2]


async def test_steps_that_are_not_kept_differ_from_steps_to_come(shelf: Shelf) -> None:
    for step in (3, 5, 9):
        await shelf.publish(step, keep=2)
    await shelf.publish(5, final=True, keep=2)  # kept: steps 9 and 5
    index = await shelf.versions.index("a")

    assert index.find(At(step=5)).version == 4
    with pytest.raises(VersionEvicted, match="kept are steps 5, 9"):
        index.find(At(step=3))
    with pytest.raises(VersionNotFound):
        index.find(At(step=10))


async def test_a_count_of_rollbacks_is_a_number(shelf: Shelf) -> None:
    described = Manifest(manifest().tensors, {"dbp.rollbacks": "-1"})

    with pytest.raises(InvalidInput, match=r"dbp\.rollbacks: must be a number, got '-1'"):
        await shelf.upload(5, described, data(4))


async def test_evicted_files_are_deleted_though_the_publisher_has_gone_away(
    shelf: Shelf,
) -> None:
    await shelf.publish(1, keep=1)
    busy, loop, commit = threading.Event(), asyncio.get_running_loop(), shelf.commit
    committed = asyncio.Event()

    async def commit_while_threads_are_busy(*change: Any) -> None:
        loop.set_default_executor(ThreadPoolExecutor(1))
        loop.run_in_executor(None, busy.wait)
        await commit(*change)
        committed.set()

    shelf.commit = commit_while_threads_are_busy
    publishing = asyncio.create_task(shelf.publish(2, keep=1))
    await committed.wait()
    await asyncio.sleep(0)

    publishing.cancel()
    await asyncio.sleep(0)
    busy.set()
    await asyncio.gather(publishing, return_exceptions=True)

    assert await shelf.kept() == [2]


async def test_the_memory_of_deleted_jobs_is_bounded(shelf: Shelf) -> None:
    for number in range(5_000):
        shelf.versions.forget(f"job-{number}")

    assert not shelf.versions.seems_kept("job-4999", 1)
    assert shelf.versions.seems_kept("job-0", 1), "nothing of it is in memory any more"
