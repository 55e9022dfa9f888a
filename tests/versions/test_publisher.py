"""Publish versions: bytes, digests and numbers; a step published again; the final version."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dbp.errors import InvalidFile, InvalidInput, StateGone, WrongState
from dbp.job.snapshot import Manifest, TensorInfo, encode_header
from dbp.job.state import Version
from dbp.versions.index import At
from tests.jobs.fakes import data, manifest
from tests.versions.shelf import Shelf


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


async def test_a_version_does_not_make_a_deleted_state_folder_again(shelf: Shelf) -> None:
    shelf.folder.path.rename(shelf.folder.path.with_name("moved"))

    with pytest.raises(StateGone):
        await shelf.publish(5)
    assert not shelf.folder.path.exists()


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


async def test_one_step_published_twice_at_once_is_one_version(shelf: Shelf) -> None:
    both = await asyncio.gather(shelf.publish(5), shelf.publish(5))

    assert both[0] == both[1]
    assert sorted(path.name for path in shelf.place.iterdir()) == ["1.safetensors"]


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


async def test_a_run_s_own_file_can_be_published(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "parameters.safetensors"
    path.write_bytes(encode_header(manifest(kind="test")) + b"z" * 16)

    version = await shelf.publisher.publish_file("a", 1, path, step=9, best=False, final=True)

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
        assert found.read(found.data_offset, 1) == bytes([105]), (
            "the newest version of the step counts"
        )


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


async def test_a_count_of_rollbacks_is_a_number(shelf: Shelf) -> None:
    described = Manifest(manifest().tensors, {"dbp.rollbacks": "-1"})

    with pytest.raises(InvalidInput, match=r"dbp\.rollbacks: must be a number, got '-1'"):
        await shelf.upload(5, described, data(4))
