"""Descriptions of versions come from a cache with a limit of memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from dbp.errors import ResourceExhausted
from dbp.job.snapshot import Manifest, manifest_of
from dbp.job.state import Version
from dbp.service.parameters import descriptions
from dbp.service.parameters.descriptions import Descriptions
from dbp.service.parameters.readers import ReaderThreads
from dbp.v1 import parameter_service_pb2 as pb

VERSION = Version(1, 1, 1, "feed", 100, 0.0)


@pytest.fixture
def threads() -> Iterator[ReaderThreads]:
    threads = ReaderThreads()
    yield threads
    threads.close()


def holding(count: int) -> Manifest:
    return manifest_of({f"{number}.bias": (1,) for number in range(count)}, "F32", {})


async def test_size_of_the_descriptions_stays_below_the_limit(threads: ReaderThreads) -> None:
    told = Descriptions(threads, limit=50_000)
    for number in range(100):
        await told.get(VERSION, holding(100), [f"{number}.*", "*" * 500])
        assert 0 < told._size <= 50_000
    assert len(told._answers) > 1
    await told.get(VERSION, holding(100), ["*" * 60_000])
    assert (told._size, len(told._answers)) == (0, 0)


async def test_many_readers_of_very_many_tensors_share_one_answer(
    threads: ReaderThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptions, "INLINE_NAMES", 10)
    told = Descriptions(threads)

    found = await asyncio.gather(*(told.get(VERSION, holding(20), ["1*"]) for _ in range(5)))

    assert all(answer is found[0] for answer in found)
    held = pb.GetParameterInfoResponse.FromString(found[0]).manifest.tensors
    assert len(held) == 11
    assert not told._making


async def test_a_description_too_large_for_a_message_names_the_way_to_get_it(
    threads: ReaderThreads,
) -> None:
    told = Descriptions(threads)

    with pytest.raises(ResourceExhausted, match="select tensors, or use StreamParameters"):
        await told.get(VERSION, holding(200_000), [])

    some = pb.GetParameterInfoResponse.FromString(
        await told.get(VERSION, holding(200_000), ["77.bias"])
    )
    assert [tensor.name for tensor in some.manifest.tensors] == ["77.bias"]
