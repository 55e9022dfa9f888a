"""Messages made once: shared, bounded, and given up with their version."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dbp.control.version_file import OpenVersion
from dbp.errors import InvalidInput
from dbp.job.snapshot import encode_header, manifest_of
from dbp.job.state import Version
from dbp.service.encoded import EncodedCache
from dbp.service.selection import selected
from dbp.v1 import parameter_service_pb2 as pb

CHUNK = 1 << 10


def opened(folder: Path, number: int, size: int = 10_000, fill: float = 0.0) -> OpenVersion:
    """A stored version of so many bytes of data."""
    manifest = manifest_of({"0.weight": (size // 8,), "0.bias": (size // 8,)}, "F32", {})
    header = encode_header(manifest)
    content = header + bytes([number]) * manifest.size_bytes
    path = folder / f"{number}.safetensors"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    version = Version(number, number, 1, digest, len(content), 0.0)
    file = path.open("rb", buffering=0)
    return OpenVersion("job", version, manifest, len(header), path, file)


async def content_of(cache: EncodedCache, version: OpenVersion, *patterns: str) -> bytes:
    manifest = selected(version.manifest, patterns)
    async with cache.open(version, manifest, CHUNK) as encoded:
        return b"".join([data_of(message) async for message in encoded.messages(0)])


def data_of(message: bytes) -> bytes:
    return pb.StreamParametersResponse.FromString(message).chunk.data


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


@pytest.fixture
async def cache() -> AsyncIterator[EncodedCache]:
    cache = EncodedCache(lambda job, version: version > 0, limit=100_000)
    yield cache
    cache.close()


async def test_readers_share_the_messages(cache: EncodedCache, tmp_path: Path) -> None:
    with opened(tmp_path, 1) as version:
        manifest = selected(version.manifest, [])
        async with cache.open(version, manifest, CHUNK) as first:
            one = [message async for message in first.messages(0)]
        async with cache.open(version, manifest, CHUNK) as second:
            two = [message async for message in second.messages(0)]

    assert len(one) == 10
    assert all(a is b for a, b in zip(one, two, strict=True))


async def test_many_at_once_make_it_once(cache: EncodedCache, tmp_path: Path) -> None:
    with opened(tmp_path, 1) as version:
        found = await asyncio.gather(
            *(content_of(cache, version, "0.weight") for _ in range(20))
        )

    assert len(set(found)) == 1
    assert len(cache._entries) == 1


async def test_what_is_kept_stays_below_the_limit(cache: EncodedCache, tmp_path: Path) -> None:
    for number in range(1, 60):
        with opened(tmp_path, number) as version:
            whole = await content_of(cache, version)
            assert hashlib.sha256(whole).hexdigest() == version.version.digest
        assert 0 <= cache._size <= 100_000
    assert len(cache._entries) < 12


async def test_versions_that_are_dropped_are_given_up(tmp_path: Path) -> None:
    kept = {1, 2}
    before = descriptors()
    cache = EncodedCache(lambda job, version: version in kept)
    for number in (1, 2):
        with opened(tmp_path, number) as version:
            await content_of(cache, version)
    kept.clear()
    kept.add(3)
    with opened(tmp_path, 3) as version:
        await content_of(cache, version)

    assert [key[1] for key in cache._entries] == [3]
    assert descriptors() == before + 1
    cache.close()
    assert descriptors() == before
    assert cache._size == 0


async def test_a_reader_goes_on_when_its_version_is_given_up(tmp_path: Path) -> None:
    kept = {1}
    before = descriptors()
    cache = EncodedCache(lambda job, version: version in kept)
    with opened(tmp_path, 1) as version:
        manifest = selected(version.manifest, [])
        async with cache.open(version, manifest, CHUNK) as encoded:
            messages = encoded.messages(0)
            content = data_of(await anext(messages))
            kept.clear()
            with opened(tmp_path, 2) as newer:
                await content_of(cache, newer)
            version.path.unlink()
            content += b"".join([data_of(message) async for message in messages])

    assert hashlib.sha256(content).hexdigest() == version.version.digest
    cache.close()
    assert descriptors() == before


async def test_what_is_too_large_is_not_kept(tmp_path: Path) -> None:
    cache = EncodedCache(lambda job, version: True, limit=10_000)
    with opened(tmp_path, 1, size=9_000) as version:
        whole = await content_of(cache, version)

    assert hashlib.sha256(whole).hexdigest() == version.version.digest
    assert cache._size == 0
    cache.close()


async def test_readers_that_leave_at_any_moment_leave_nothing(tmp_path: Path) -> None:
    before = descriptors()
    cache = EncodedCache(lambda job, version: True)
    for turns in range(40):
        with opened(tmp_path, turns + 1) as version:
            reading = asyncio.create_task(content_of(cache, version, "0.bias"))
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    await asyncio.sleep(0.05)  # what has begun on a thread ends there

    cache.close()
    assert descriptors() == before


async def test_a_selection_that_cannot_be_made_is_told_to_all(
    cache: EncodedCache, tmp_path: Path
) -> None:
    before = descriptors()
    with opened(tmp_path, 0x7F) as version:  # floats of about 3e38
        manifest = selected(version.manifest, [], "F16")
        results = await asyncio.gather(
            *(enter(cache, version, manifest) for _ in range(3)), return_exceptions=True
        )

    assert all(isinstance(result, InvalidInput) for result in results)
    assert not cache._entries
    assert descriptors() == before


async def enter(cache: EncodedCache, version: OpenVersion, manifest: object) -> None:
    async with cache.open(version, manifest, CHUNK):  # type: ignore[arg-type]
        raise AssertionError
