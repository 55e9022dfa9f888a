"""Watching parameters: every reader sees the newest, no reader holds anybody up."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import safetensors.numpy

from dbp.rpc.channel import connect
from dbp.service.parameters import readers
from dbp.v1 import parameter_service_pb2 as pb
from dbp.v1 import stream_pb2
from dbp.v1.parameter_service_pb2_grpc import ParameterServiceStub
from tests.credentials import open_channel
from tests.deadline import DEADLINE
from tests.service.setups import Run, Service, read_all, refused, serving, tensors

Code = grpc.StatusCode


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state", heartbeat_seconds=0.2) as service:
        yield service


def watch(service: Service, run: Run, **fields: Any) -> Any:
    request = pb.WatchParametersRequest(job=f"jobs/{run.id}", **fields)
    return service.parameters.WatchParameters(request)


async def told(stream: Any) -> pb.VersionPublished:
    """The next version that a watch sends."""
    async with asyncio.timeout(DEADLINE):
        while True:
            message = await stream.read()
            assert message is not grpc.aio.EOF
            if message.WhichOneof("payload") == "published":
                found: pb.VersionPublished = message.published
                return found


async def test_each_version_is_sent_until_the_job_has_ended(service: Service, run: Run) -> None:
    stream = watch(service, run)
    for step in (1, 2, 3):
        version = await run.publish(step, tensors(seed=step))
        found = await told(stream)
        assert (found.version, found.skipped) == (version, 0)
    await run.end()

    messages = await read_all(stream)

    assert messages[-1].end.reason == stream_pb2.STREAM_END_REASON_JOB_ENDED
    kinds = {message.WhichOneof("payload") for message in messages[:-1]}
    assert kinds <= {"heartbeat"}


async def test_a_watch_begins_where_the_reader_is(service: Service, run: Run) -> None:
    for step in (1, 2, 3, 4, 5):
        await run.publish(step, tensors(seed=step))

    newest = await told(watch(service, run))
    behind = await told(watch(service, run, newer_than=2))

    assert (newest.version.version, newest.skipped) == (5, 0)
    assert (behind.version.version, behind.skipped) == (5, 2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await told(watch(service, run, newer_than=5))
    await refused(watch(service, run, newer_than=-1).read(), Code.INVALID_ARGUMENT)
    await refused(watch(service, run, with_data=True, cast=9).read(), Code.INVALID_ARGUMENT)
    ghost = pb.WatchParametersRequest(job="jobs/ghost")
    await refused(service.parameters.WatchParameters(ghost).read(), Code.NOT_FOUND)


async def test_silence_is_broken_by_heartbeats(service: Service, run: Run) -> None:
    stream = watch(service, run)
    async with asyncio.timeout(DEADLINE):
        first, second = await stream.read(), await stream.read()

    assert first.WhichOneof("payload") == second.WhichOneof("payload") == "heartbeat"


async def test_a_watch_ends_with_an_end_message_when_the_service_leaves(
    service: Service, run: Run
) -> None:
    stream = watch(service, run)
    await run.publish(1, tensors())
    await told(stream)

    await service.stop()

    assert (await read_all(stream))[-1].end.reason == stream_pb2.STREAM_END_REASON_DRAINING


async def test_data_come_with_the_word(service: Service, run: Run) -> None:
    stream = watch(service, run, with_data=True, tensors=["0.bias"])
    for step in (1, 2):
        values = tensors(seed=step)
        version = await run.publish(step, values)
        assert (await told(stream)).version == version
        header = (await stream.read()).header
        content = (await stream.read()).chunk.data
        trailer = (await stream.read()).trailer
        assert header.version == version
        assert trailer.digest == hashlib.sha256(content).hexdigest()
        loaded = safetensors.numpy.load(content)
        assert list(loaded) == ["0.bias"]
        assert np.array_equal(loaded["0.bias"], values["0.bias"])


async def test_a_slow_reader_gets_the_newest_and_the_number_it_missed(
    service: Service, run: Run
) -> None:
    stream = watch(service, run, with_data=True)
    await run.publish(1, tensors(4_000_000))  # 32 MB: more than is sent unasked
    assert (await told(stream)).version.version == 1
    for step in range(2, 8):
        await run.publish(step, tensors(seed=step))

    found = await told(stream)  # reads the rest of version 1 on the way

    assert (found.version.version, found.skipped) == (7, 5)


async def test_a_thousand_watchers_all_receive_a_version(service: Service, run: Run) -> None:
    channels = [connect(service.address) for _ in range(4)]
    try:
        stubs = [ParameterServiceStub(channel) for channel in channels]
        request = pb.WatchParametersRequest(job=f"jobs/{run.id}")
        streams = [stubs[number % 4].WatchParameters(request) for number in range(1_000)]
        await run.publish(1, tensors())
        first = await asyncio.gather(*map(told, streams))
        await run.publish(2, tensors())
        second = await asyncio.gather(*map(told, streams))
        for stream in streams:
            stream.cancel()
    finally:
        for channel in channels:
            await channel.close()

    assert {found.version.version for found in first} == {1}
    assert {found.version.version for found in second} == {2}


async def test_too_many_on_one_connection_are_refused(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = readers.STREAMS_PER_CONNECTION
    await run.publish(1, tensors(4_000_000))
    request = pb.StreamParametersRequest()
    request.selector.job = f"jobs/{run.id}"
    async with open_channel(service.address) as channel:  # over TCP, where connections differ
        parameters = ParameterServiceStub(channel)
        streams = [parameters.StreamParameters(request) for _ in range(limit)]
        for stream in streams:
            assert (await stream.read()).HasField("header")

        text = await refused(
            parameters.StreamParameters(request).read(), Code.RESOURCE_EXHAUSTED
        )

        assert f"at most {limit} are allowed" in text
        own = [("grpc.use_local_subchannel_pool", 1)]  # else they share the connection
        async with open_channel(service.address, options=own) as another:  # it is served
            other = ParameterServiceStub(another).StreamParameters(request)
            assert (await other.read()).HasField("header")
            other.cancel()
        for stream in streams:
            stream.cancel()
