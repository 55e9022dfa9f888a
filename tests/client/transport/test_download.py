"""Downloads of parameters: the received bytes equal the sent ones, or an error is raised."""

from __future__ import annotations

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import google_crc32c
import grpc
import numpy as np
import pytest

from dbp.client.transport.chunk_message import chunk_of
from dbp.client.transport.connection import Connection
from dbp.client.transport.download import download
from dbp.client.transport.patience import Patience
from dbp.client.transport.receiver import Receiver
from dbp.errors import (
    CorruptParameters,
    DataLoss,
    DbpError,
    NotFound,
    ResourceExhausted,
    Unavailable,
    VersionEvicted,
)
from dbp.job.state import Version
from dbp.rpc.status import code_of, details_of
from dbp.service.parameters.encoded import chunk_message
from dbp.v1 import job_pb2
from dbp.v1 import parameter_service_pb2 as pb

CONTENT = bytes(range(256)) * 10
DIGEST = hashlib.sha256(CONTENT).hexdigest()
CHUNK = 1000
VERSION = Version(3, 70, 1, DIGEST, len(CONTENT), 0.0)


def header(
    number: int = 3, *, size: int = len(CONTENT), digest: str = DIGEST, **fields: Any
) -> bytes:
    version = job_pb2.ParameterVersion(version=number, step=70, digest=digest)
    told = pb.ParametersHeader(version=version, size_bytes=size, **fields)
    return pb.StreamParametersResponse(header=told).SerializeToString()


def trailer(digest: str = DIGEST) -> bytes:
    told = pb.ParametersTrailer(digest=digest)
    return pb.StreamParametersResponse(trailer=told).SerializeToString()


def messages(content: bytes = CONTENT, offset: int = 0) -> list[bytes]:
    """A header, chunks that end at thousands, a trailer."""
    chunks = []
    start = offset
    while start < len(content):
        end = min(len(content), start - start % CHUNK + CHUNK)
        chunks.append(chunk_message(start, content[start:end]))
        start = end
    digest = hashlib.sha256(content).hexdigest()
    return [header(size=len(content), digest=digest), *chunks, trailer(digest)]


async def stream(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def received(parts: list[bytes], *, whole: bool = True) -> Receiver:
    request = pb.StreamParametersRequest(cast="CAST_UNSPECIFIED" if whole else "CAST_F16")
    receiver = Receiver(request)
    await receiver.take(stream(parts))
    return receiver


# One stream


async def test_chunks_become_one_read_only_buffer() -> None:
    found = await received(messages())

    assert found.done
    assert found.version is not None
    assert found.version.version == 3
    assert found.content is not None
    assert bytes(found.content) == CONTENT
    assert found.content.readonly


async def test_nothing_newer_is_no_bytes() -> None:
    found = await received([header(not_modified=True, job_ended=True)])

    assert found.done
    assert found.version is not None
    assert (found.version.step, found.content, found.job_ended) == (70, None, True)


@pytest.mark.parametrize("place", [1, 2, 3])
async def test_a_changed_bit_is_found_in_its_chunk(place: int) -> None:
    parts = messages()
    parts[place] = parts[place][:-1] + bytes([parts[place][-1] ^ 1])

    with pytest.raises(CorruptParameters, match=f"bytes at {(place - 1) * CHUNK} is wrong"):
        await received(parts)


async def test_another_file_is_refused_though_every_checksum_fits() -> None:
    other = messages(CONTENT[::-1])
    parts = [header(), *other[1:]]

    with pytest.raises(DataLoss, match="version 3: the digest is not"):
        await received(parts)
    assert (await received(parts, whole=False)).done, "a part has a digest of its own"


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1])
async def test_a_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(DataLoss):
        await received([header(size=size), *messages()[1:]])


async def test_chunks_out_of_order_are_refused() -> None:
    parts = messages()
    parts[1], parts[2] = parts[2], parts[1]

    with pytest.raises(DataLoss, match="bytes at 1000 came after 0"):
        await received(parts)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 70_000, 5_000_000])
@pytest.mark.parametrize("offset", [0, 5, 2**35])
def test_a_chunk_is_read_as_protobuf_reads_it(size: int, offset: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    message = chunk_message(offset, data)

    parsed = pb.StreamParametersResponse.FromString(message).chunk
    found = chunk_of(message)

    assert (parsed.offset, parsed.crc32c, parsed.data) == (
        offset, google_crc32c.value(data), data,
    )  # fmt: skip
    assert found is not None
    assert found[:2] == (offset, parsed.crc32c)
    assert message[found[2] :] == data
    assert pb.WatchParametersResponse.FromString(message).chunk == parsed
    for end in range(min(len(message), 30)):
        assert chunk_of(message[:end]) is None


def test_other_messages_are_left_to_protobuf() -> None:
    chunk = pb.ParametersChunk(offset=3, data=b"x")  # without a checksum: other fields
    other = pb.StreamParametersResponse(chunk=chunk).SerializeToString()

    assert chunk_of(header()) is None
    assert chunk_of(trailer()) is None
    assert chunk_of(other) is None
    assert chunk_of(b"") is None


# A download over several streams


class Call:
    """A call that gives some messages and breaks off."""

    def __init__(
        self, parts: list[bytes], error: DbpError | None = None, *, pause: float = 0
    ) -> None:
        """``pause``: seconds before each message, and before the error."""
        self._parts = parts
        self._error = error
        self._pause = pause

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            await asyncio.sleep(self._pause)
            yield part
        await asyncio.sleep(self._pause)
        if self._error is not None:
            code = code_of(self._error)
            metadata = grpc.aio.Metadata(*details_of(self._error))
            raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, str(self._error))

    def cancel(self) -> None:
        pass


class Source:
    """Answers requests one after the other, and remembers them."""

    def __init__(self, *calls: Call | None) -> None:
        """None: the rest of the file from where it is asked for."""
        self._calls = list(calls)
        self.requests: list[pb.StreamParametersRequest] = []

    def __call__(self, request: pb.StreamParametersRequest) -> Call:
        self.requests.append(pb.StreamParametersRequest.FromString(request.SerializeToString()))
        return self._calls.pop(0) or Call(messages(offset=request.offset))


async def downloaded(
    source: Source, request: pb.StreamParametersRequest, *, patience: float, timeout: float = 60
) -> Receiver:
    connection = Connection("127.0.0.1:1", timeout=timeout, patience=patience)
    try:
        return await download(connection, source, request, patience=Patience(patience))
    finally:
        await connection.channel.close()


REQUEST = pb.StreamParametersRequest(selector={"job": "jobs/a", "label": "best"})
GONE = Unavailable("gone")


@pytest.mark.parametrize("count", range(4))
@pytest.mark.parametrize("error", [GONE, None])
async def test_a_download_continues_wherever_it_was_cut(
    count: int, error: DbpError | None
) -> None:
    source = Source(Call(messages()[: count + 1], error), None)

    found = await downloaded(source, REQUEST, patience=5.0)

    assert found.content is not None
    assert bytes(found.content) == CONTENT
    again = source.requests[1]
    assert source.requests[0] == REQUEST
    assert again.selector.version == 3
    assert again.offset == min(count * CHUNK, len(CONTENT))


async def test_a_download_continues_after_many_cuts() -> None:
    calls = [
        Call([header(), chunk_message(start, CONTENT[start : start + 100])], GONE)
        for start in range(0, len(CONTENT), 100)
    ]
    source = Source(*calls, None)

    found = await downloaded(source, REQUEST, patience=0.2)

    assert found.content is not None
    assert bytes(found.content) == CONTENT
    offsets = [request.offset for request in source.requests]
    assert offsets == [*range(0, 2600, 100), len(CONTENT)]


async def test_a_version_that_is_gone_is_replaced_by_the_newest() -> None:
    newer = CONTENT[::-1]
    source = Source(
        Call(messages()[:2], GONE), Call([], VersionEvicted("gone")), Call(messages(newer))
    )

    found = await downloaded(source, REQUEST, patience=5.0)

    assert found.content is not None
    assert bytes(found.content) == newer
    assert source.requests[2] == REQUEST


@pytest.mark.parametrize("wait", [None, 60])
async def test_the_time_to_the_first_byte_starts_again_with_a_version_that_replaces_another(
    wait: int | None,
) -> None:
    """The first download had taken longer than a first byte may."""
    newer = CONTENT[::-1]
    request = pb.StreamParametersRequest.FromString(REQUEST.SerializeToString())
    if wait is not None:
        request.wait.FromSeconds(wait)
    slow, late = Call(messages()[:2], GONE, pause=0.8), Call(messages(newer), pause=0.1)
    source = Source(slow, Call([], VersionEvicted("gone")), late)

    found = await downloaded(source, request, patience=5.0, timeout=2)

    assert found.content is not None
    assert bytes(found.content) == newer
    if wait is not None:
        assert 0 < source.requests[2].wait.ToMilliseconds() < 1000 * wait


async def test_a_version_that_changes_during_the_download_is_refused() -> None:
    changed = [header(digest="00" * 32), *messages(offset=CHUNK)[1:]]
    source = Source(Call(messages()[:2], GONE), Call(changed))

    with pytest.raises(CorruptParameters, match="has changed during the download"):
        await downloaded(source, REQUEST, patience=5.0)


@pytest.mark.parametrize(
    "wanted",
    [
        pb.StreamParametersRequest(selector={"version": 2}),
        pb.StreamParametersRequest(selector={"step": 69}),
        pb.StreamParametersRequest(newer_than=3),
    ],
)
async def test_a_version_that_was_not_asked_for_is_refused(
    wanted: pb.StreamParametersRequest,
) -> None:
    with pytest.raises(CorruptParameters, match="version 3, of step 70, came, which was not"):
        await downloaded(Source(Call(messages())), wanted, patience=5.0)


async def test_a_message_that_is_none_is_refused() -> None:
    with pytest.raises(DataLoss, match="a message cannot be read"):
        await received([header(), b"\xff\xff\xff"])


async def test_more_bytes_than_memory_can_hold_are_refused() -> None:
    with pytest.raises(ResourceExhausted, match="more than there is memory for"):
        await received([header(size=2**62)])


async def test_a_service_that_does_not_come_back_is_named() -> None:
    source = Source(Call(messages()[:2], GONE), *[Call([], GONE)] * 20)

    with pytest.raises(Unavailable):
        await downloaded(source, REQUEST, patience=0.3)
    assert len(source.requests) > 1


async def test_a_service_that_was_never_there_is_named_at_once() -> None:
    source = Source(Call([], GONE))

    with pytest.raises(Unavailable):
        await downloaded(source, REQUEST, patience=60.0)


async def test_a_refusal_is_no_cut() -> None:
    source = Source(Call([], NotFound("no such job")))

    with pytest.raises(NotFound, match="no such job"):
        await downloaded(source, REQUEST, patience=60.0)


async def test_memory_holds_the_file_and_little_more() -> None:
    content = np.random.default_rng(0).bytes(64 << 20)
    parts = messages_of(content)
    digest = hashlib.sha256(content).hexdigest()

    async def arriving() -> AsyncIterator[bytes]:
        yield header(size=len(content), digest=digest)
        for start in range(0, len(content), 1 << 20):
            yield parts(start)
        yield trailer(digest)

    receiver = Receiver(pb.StreamParametersRequest())
    tracemalloc.start()
    try:
        await receiver.take(arriving())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert receiver.done
    assert peak < 1.1 * len(content)


def messages_of(content: bytes) -> Any:
    """Chunks of a MiB, made one at a time."""
    return lambda start: chunk_message(start, content[start : start + (1 << 20)])
