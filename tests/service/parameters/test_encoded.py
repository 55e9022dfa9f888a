"""Messages made once: shared, bounded, and given up with their version."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import CorruptParameters, InvalidInput, TooManyReaders
from dbp.job.snapshot import encode_header, manifest_of
from dbp.job.state import Version
from dbp.service.parameters import encoded_cache
from dbp.service.parameters.encoded_cache import EncodedCache
from dbp.service.parameters.readers import ReaderThreads
from dbp.v1 import parameter_service_pb2 as pb
from dbp.versions import selection
from dbp.versions.file import OpenVersion
from dbp.versions.selection import Selection, selected

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


async def content_of(
    cache: EncodedCache, version: OpenVersion, *patterns: str, cast: str = ""
) -> bytes:
    async with cache.open(version, selection_of(version, *patterns, cast=cast)) as encoded:
        return b"".join([data_of(message) async for message in encoded.messages(0, CHUNK)])


def selection_of(version: OpenVersion, *patterns: str, cast: str = "") -> Selection:
    return selected(version.version, version.manifest, patterns, cast)


def cache_of(kept: Callable[[str, int], bool] = lambda *_: True, **limits: int) -> EncodedCache:
    return EncodedCache(kept, ReaderThreads(), chunk_bytes=CHUNK, **limits)


def data_of(message: bytes) -> bytes:
    return pb.StreamParametersResponse.FromString(message).chunk.data


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


@pytest.fixture
async def cache() -> AsyncIterator[EncodedCache]:
    cache = cache_of(lambda job, version: version > 0, limit=100_000)
    yield cache
    cache.close()


async def test_readers_share_the_messages(cache: EncodedCache, tmp_path: Path) -> None:
    with opened(tmp_path, 1) as version:
        all_of_it = selection_of(version)
        async with cache.open(version, all_of_it) as first:
            one = [message async for message in first.messages(0, CHUNK)]
        async with cache.open(version, all_of_it) as second:
            two = [message async for message in second.messages(0, CHUNK)]

    assert len(one) == 10
    assert all(a is b for a, b in zip(one, two, strict=True))


async def test_many_at_once_make_it_once(cache: EncodedCache, tmp_path: Path) -> None:
    with opened(tmp_path, 1) as version:
        found = await asyncio.gather(
            *(content_of(cache, version, "0.weight") for _ in range(20))
        )

    assert len(set(found)) == 1
    assert len(cache._entries) == 1


async def test_size_of_the_cache_stays_below_the_limit(
    cache: EncodedCache, tmp_path: Path
) -> None:
    for number in range(1, 60):
        with opened(tmp_path, number) as version:
            whole = await content_of(cache, version)
            assert hashlib.sha256(whole).hexdigest() == version.version.digest
        assert 0 <= cache._size <= 100_000
    assert len(cache._entries) < 12


async def test_versions_that_are_dropped_are_given_up(tmp_path: Path) -> None:
    kept = {1, 2}
    before = descriptors()
    cache = cache_of(lambda job, version: version in kept)
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


async def test_a_reader_continues_when_its_version_is_given_up(tmp_path: Path) -> None:
    kept = {1}
    before = descriptors()
    cache = cache_of(lambda job, version: version in kept)
    with opened(tmp_path, 1) as version:
        async with cache.open(version, selection_of(version)) as encoded:
            messages = encoded.messages(0, CHUNK)
            content = data_of(await anext(messages))
            kept.clear()
            with opened(tmp_path, 2) as newer:
                await content_of(cache, newer)
            version.path.unlink()
            content += b"".join([data_of(message) async for message in messages])

    assert hashlib.sha256(content).hexdigest() == version.version.digest
    cache.close()
    assert descriptors() == before


async def test_contents_above_the_limit_are_not_cached(tmp_path: Path) -> None:
    cache = cache_of(limit=10_000)
    with opened(tmp_path, 1, size=9_000) as version:
        whole = await content_of(cache, version)

    assert hashlib.sha256(whole).hexdigest() == version.version.digest
    assert cache._size == 0
    cache.close()


async def test_derived_files_fill_no_more_of_the_disk_than_allowed(tmp_path: Path) -> None:
    before = descriptors()
    cache = cache_of(limit=1_000, disk_limit=12_000)  # in memory none is kept
    with opened(tmp_path, 1) as version:
        async with AsyncExitStack() as reading:
            for pattern in ("0.weight", "0.bias"):
                await reading.enter_async_context(
                    cache.open(version, selection_of(version, pattern))
                )
            with pytest.raises(TooManyReaders, match="at most 12,000 are allowed together"):
                await content_of(cache, version, cast="BF16")
            assert await content_of(cache, version, "0.bias")
            assert await content_of(cache, version), "its own file takes no more space"
        assert cache._disk > 10_000
        assert await content_of(cache, version, cast="BF16")
        assert cache._disk < 12_000

    cache.close()
    assert cache._disk == 0
    assert descriptors() == before


async def test_all_parts_of_a_version_may_be_read_however_large_it_is(tmp_path: Path) -> None:
    cache = cache_of(disk_limit=1_000)
    with opened(tmp_path, 1) as version:
        assert await content_of(cache, version, "0.weight")
        assert await content_of(cache, version, cast="BF16")
        assert len(cache._entries) == 1
        assert await content_of(cache, version, "0.bias")

    assert cache._disk <= version.version.size_bytes
    cache.close()


async def test_a_file_that_could_not_be_derived_takes_no_space(tmp_path: Path) -> None:
    cache = cache_of()
    with opened(tmp_path, 1) as version:
        os.truncate(version.path, 1_000)
        with pytest.raises(CorruptParameters):
            await content_of(cache, version, "0.bias")

    assert cache._disk == 0
    cache.close()


async def test_only_so_many_are_derived_at_once(
    cache: EncodedCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = running = 0

    def counted(*arguments: Any) -> Any:
        nonlocal most, running
        running += 1
        most = max(most, running)
        time.sleep(0.01)
        running -= 1
        return selection.derive(*arguments)

    cache._turns = asyncio.Semaphore(1)
    monkeypatch.setattr(encoded_cache, "derive", counted)
    with opened(tmp_path, 1) as version:
        first = asyncio.create_task(content_of(cache, version, "0.bias"))
        same = asyncio.create_task(content_of(cache, version, "0.bias"))
        await asyncio.sleep(0)
        others = [
            asyncio.create_task(content_of(cache, version, *patterns, cast=cast))
            for patterns, cast in ((["0.weight"], ""), ([], "BF16"), (["0.weight"], ""))
        ]
        leaving = asyncio.create_task(content_of(cache, version, "0.weight", cast="BF16"))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(first, same, *others)
        assert await first == await same

    assert most == 1
    assert len(cache._entries) == 3


async def test_one_file_serves_chunks_of_any_size(cache: EncodedCache, tmp_path: Path) -> None:
    with opened(tmp_path, 1) as version:
        expected = await content_of(cache, version, "0.bias")
        async with cache.open(version, selection_of(version, "0.bias")) as encoded:
            for size in (CHUNK - 1, CHUNK, 3 * CHUNK):
                found = [data_of(message) async for message in encoded.messages(0, size)]
                assert b"".join(found) == expected
                assert {len(data) for data in found[:-1]} == {size}

    assert len(cache._entries) == 1


async def test_readers_that_leave_at_any_moment_leave_nothing(tmp_path: Path) -> None:
    before = descriptors()
    cache = cache_of()
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


async def test_a_selection_that_cannot_be_made_fails_for_all_its_readers(
    cache: EncodedCache, tmp_path: Path
) -> None:
    before = descriptors()
    with opened(tmp_path, 0x7F) as version:  # floats of about 3e38
        results = await asyncio.gather(
            *(content_of(cache, version, cast="F16") for _ in range(3)), return_exceptions=True
        )

    assert all(isinstance(result, InvalidInput) for result in results)
    assert not cache._entries
    assert descriptors() == before


async def test_a_waiting_reader_gets_the_file_though_others_need_its_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    def counted(*arguments: Any) -> Any:
        nonlocal made
        made += 1
        return selection.derive(*arguments)

    monkeypatch.setattr(encoded_cache, "derive", counted)
    cache = cache_of(limit=1_000, disk_limit=1)  # one part of a version at a time, or two
    cache._turns = asyncio.Semaphore(1)
    with opened(tmp_path, 1) as version:
        results = await asyncio.gather(
            *(
                content_of(cache, version, pattern, cast=cast)
                for pattern in ("0.weight", "0.bias")
                for cast in ("", "BF16")
            ),
            return_exceptions=True,
        )

    found = [result for result in results if isinstance(result, bytes)]
    assert len(found) >= 2
    assert all(isinstance(result, bytes | TooManyReaders) for result in results)
    assert made == len(found)
    cache.close()
