"""Reading parameters: by version, in part, in another type, from any byte on."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import google_crc32c
import grpc
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from google.rpc import error_details_pb2

from dbp.job.snapshot import decode_header
from dbp.rpc.enums import cast_to_proto
from dbp.v1 import parameter_service_pb2 as pb
from tests.deadline import DEADLINE
from tests.service.setups import (
    Run,
    Service,
    details,
    read_all,
    refused,
    selector,
    serving,
    tensors,
    until,
)

Code = grpc.StatusCode


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state") as service:
        yield service


@pytest.fixture
async def run(service: Service) -> Run:
    return await service.start(publish={"every_steps": 1, "keep": 2})


def ask(run: Run, *patterns: str, **fields: Any) -> pb.StreamParametersRequest:
    at = {name: fields.pop(name) for name in ("version", "step", "label") if name in fields}
    chosen = pb.ParameterSelector(job=f"jobs/{run.id}", tensors=patterns, **at)
    wait = fields.pop("wait", None)
    fields["cast"] = cast_to_proto(fields.get("cast"))
    request = pb.StreamParametersRequest(selector=chosen, **fields)
    if wait is not None:
        request.wait.FromMilliseconds(round(wait * 1000))
    return request


async def read(
    service: Service, request: pb.StreamParametersRequest
) -> tuple[pb.ParametersHeader, bytes, str]:
    """Header, bytes and the digest of the trailer; chunks are checked on the way."""
    messages = await read_all(service.parameters.StreamParameters(request))
    first, *chunks = [part for part in messages if not part.HasField("heartbeat")]
    if first.header.not_modified:
        assert not chunks
        return first.header, b"", ""
    *chunks, last = chunks
    content = b""
    for message in chunks:
        assert message.chunk.offset == request.offset + len(content)
        assert message.chunk.crc32c == google_crc32c.value(message.chunk.data)
        content += message.chunk.data
    return first.header, content, last.trailer.digest


async def reason(call: Any, code: grpc.StatusCode) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a call's error."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code, caught.value.details()
    info: error_details_pb2.ErrorInfo = details(caught.value, error_details_pb2.ErrorInfo())
    return info


# Which version


async def test_by_step_and_by_label(service: Service, run: Run) -> None:
    for step in range(10, 50, 10):
        await run.publish(step, tensors(seed=step), best=step == 20)
    move = pb.MoveLabelRequest(job=f"jobs/{run.id}", label="stable", version=3)
    await service.parameters.MoveLabel(move)
    await run.publish(50, tensors(seed=50))

    async def version(**at: Any) -> tuple[int, int]:
        found = (await read(service, ask(run, **at)))[0].version
        return found.version, found.step

    assert await version() == (5, 50)
    assert await version(step=40) == (4, 40)
    assert await version(label="best") == (2, 20)
    assert await version(label="stable") == (3, 30)
    assert await version(label="latest") == (5, 50)
    assert await version(version=4) == (4, 40)
    for fields, code, why in (
        ({"step": 10}, Code.OUT_OF_RANGE, "VERSION_EVICTED"),
        ({"step": 60}, Code.NOT_FOUND, "VERSION_NOT_FOUND"),
        ({"step": -1}, Code.INVALID_ARGUMENT, "INVALID_INPUT"),
        ({"label": "stabel"}, Code.NOT_FOUND, "LABEL_NOT_FOUND"),
        ({"label": ""}, Code.INVALID_ARGUMENT, "INVALID_INPUT"),
        ({"version": 1}, Code.OUT_OF_RANGE, "VERSION_EVICTED"),
        ({"version": 6}, Code.NOT_FOUND, "VERSION_NOT_FOUND"),
    ):
        stream = service.parameters.StreamParameters(ask(run, **fields))
        assert (await reason(read_all(stream), code)).reason == why


async def test_labels_move_with_history(service: Service, run: Run) -> None:
    job = f"jobs/{run.id}"
    for step in (1, 2, 3):
        await run.publish(step, tensors(seed=step))

    async def move(label: str, version: int, expected: int | None = None) -> pb.Label:
        request = pb.MoveLabelRequest(
            job=job, label=label, version=version, expected_version=expected
        )
        answer: pb.MoveLabelResponse = await service.parameters.MoveLabel(request)
        return answer.label

    assert (await move("prod", 2)).version == 2
    assert (await move("prod", 3, expected=2)).version == 3
    assert (await move("prod", 3, expected=2)).version == 3, "sent twice is no conflict"
    info = await reason(move("prod", 2, expected=0), Code.ABORTED)
    assert info.reason == "CONFLICT"
    await reason(move("best", 2), Code.INVALID_ARGUMENT)
    await reason(move("latest", 2), Code.INVALID_ARGUMENT)
    await reason(move("Prod!", 2), Code.INVALID_ARGUMENT)
    await reason(move("old", 1), Code.OUT_OF_RANGE)
    await reason(move("prod", -1), Code.INVALID_ARGUMENT)

    answer = await service.parameters.ListLabels(pb.ListLabelsRequest(job=job))
    assert [(label.name, label.version) for label in answer.labels] == [("prod", 3)]
    assert [label.version for label in answer.history] == [2, 3]
    await move("prod", 0)
    answer = await service.parameters.ListLabels(pb.ListLabelsRequest(job=job))
    assert not answer.labels
    assert [label.version for label in answer.history] == [2, 3, 0]


async def test_a_move_that_changes_nothing_says_since_when(service: Service, run: Run) -> None:
    await run.publish(1, tensors())
    request = pb.MoveLabelRequest(job=f"jobs/{run.id}", label="prod", version=1)
    first = (await service.parameters.MoveLabel(request)).label

    assert (await service.parameters.MoveLabel(request)).label == first
    listed = await service.parameters.ListLabels(pb.ListLabelsRequest(job=f"jobs/{run.id}"))
    assert list(listed.labels) == [first]


async def test_the_history_of_versions_is_a_chain(service: Service, run: Run) -> None:
    job = f"jobs/{run.id}"
    published = [await run.publish(step, tensors(seed=step)) for step in range(1, 8)]
    pin = pb.PinVersionRequest(job=job, version=6, pinned=True)
    pinned = await service.parameters.PinVersion(pin)
    assert (pinned.version.pinned, pinned.version.kept) == (True, True)
    published += [await run.publish(step, tensors(seed=step)) for step in (8, 9)]

    entries: list[pb.VersionEntry] = []
    token = ""
    while True:
        request = pb.ListVersionsRequest(job=job, page_size=4, page_token=token)
        page = await service.parameters.ListVersions(request)
        assert len(page.versions) <= 4
        entries += page.versions
        token = page.next_page_token
        if not token:
            break

    assert [entry.version for entry in entries] == published[::-1]
    assert [entry.version.version for entry in entries if entry.kept] == [9, 8, 6]
    assert [entry.version.version for entry in entries if entry.pinned] == [6]
    spec_digest = (await service.get(run.id)).spec_digest
    for newer, older in itertools.pairwise(entries):
        assert newer.version.previous_digest == older.version.digest
        assert newer.version.spec_digest == spec_digest
    unpin = pb.PinVersionRequest(job=job, version=6)
    assert not (await service.parameters.PinVersion(unpin)).version.kept
    bad = pb.ListVersionsRequest(job=job, page_token="x")
    await refused(service.parameters.ListVersions(bad), Code.INVALID_ARGUMENT)
    await refused(
        service.parameters.PinVersion(pb.PinVersionRequest(job=job)), Code.INVALID_ARGUMENT
    )


async def test_a_run_publishes_on_request(service: Service, run: Run) -> None:
    request = pb.PublishVersionRequest(job=f"jobs/{run.id}")
    await run.publish(1, tensors())
    asking = asyncio.ensure_future(service.parameters.PublishVersion(request))
    await until(lambda: run.asked)
    assert run.asked[0].publish
    await run.publish(2, tensors())

    assert (await asking).version.step == 2
    request.wait.FromMilliseconds(50)
    assert (
        await reason(service.parameters.PublishVersion(request), Code.UNAVAILABLE)
    ).reason == "UNAVAILABLE"
    await run.end()
    text = await refused(service.parameters.PublishVersion(request), Code.FAILED_PRECONDITION)
    assert "only a RUNNING job" in text


async def test_a_wait_for_a_version_is_not_tried_again(service: Service, run: Run) -> None:
    request = pb.PublishVersionRequest(job=f"jobs/{run.id}")
    request.wait.FromSeconds(4)
    begin = time.monotonic()

    text = await refused(service.parameters.PublishVersion(request), Code.UNAVAILABLE)

    assert "no new version came within 4 s" in text
    assert time.monotonic() - begin < 16, "four tries would take 16 seconds and more"


# Under what conditions


async def test_only_another_digest(service: Service, run: Run) -> None:
    published = await run.publish(1, tensors())

    header, content, _ = await read(service, ask(run, if_none_match=published.digest))
    assert (header.not_modified, content) == (True, b"")
    assert not (await read(service, ask(run, if_none_match="00")))[0].not_modified
    unary = pb.GetParametersRequest(selector=selector(run.id), if_none_match=published.digest)
    assert (await service.parameters.GetParameters(unary)).not_modified
    reader = asyncio.create_task(
        read(service, ask(run, if_none_match=published.digest, wait=10.0))
    )
    await asyncio.sleep(0.05)
    await run.publish(2, tensors(seed=2))
    assert (await reader)[0].version.version == 2


async def test_parameters_that_are_too_old_are_refused_and_asked_for(
    service: Service, run: Run
) -> None:
    await run.publish(2, tensors())
    await run.progress(12)

    assert (await read(service, ask(run, max_staleness_steps=10)))[0].version.step == 2
    stream = service.parameters.StreamParameters(ask(run, max_staleness_steps=9))
    info = await reason(read_all(stream), Code.FAILED_PRECONDITION)
    assert (info.reason, info.metadata["steps_behind"]) == ("STALE_PARAMETERS", "10")
    unary = pb.GetParametersRequest(selector=selector(run.id), max_staleness_steps=0)
    await reason(service.parameters.GetParameters(unary), Code.FAILED_PRECONDITION)
    negative = service.parameters.StreamParameters(ask(run, max_staleness_steps=-1))
    await reason(read_all(negative), Code.INVALID_ARGUMENT)
    reader = asyncio.create_task(read(service, ask(run, max_staleness_steps=0, wait=10.0)))
    await until(lambda: run.asked)
    assert run.asked[0].publish, "the run is asked for a fresh version"
    await run.publish(12, tensors())
    assert (await reader)[0].version.step == 12


async def test_readers_that_want_the_newest_step_ask_a_run_once_a_second(
    service: Service, run: Run
) -> None:
    await run.publish(1, tensors())
    await run.progress(50)
    readers = [
        asyncio.create_task(read(service, ask(run, max_staleness_steps=0, wait=1.5)))
        for _ in range(20)
    ]
    for step in range(2, 12):
        await asyncio.sleep(0.1)
        await run.publish(step, tensors(seed=step))

    results = await asyncio.gather(*readers, return_exceptions=True)

    assert all(isinstance(result, grpc.aio.AioRpcError) for result in results)
    assert 1 <= len(run.asked) <= 3


async def test_a_run_that_comes_back_is_asked_for_what_a_reader_waits_for(
    service: Service, run: Run
) -> None:
    await run.publish(1, tensors())
    await run.progress(9)
    await run.leave()
    service.runs.remove(run)
    reading = asyncio.create_task(read(service, ask(run, max_staleness_steps=2, wait=15.0)))
    await asyncio.sleep(0.1)

    back = service.run_of(run.id)
    await back.attach()
    await back.progress(10)
    await until(lambda: back.asked)
    await back.publish(10, tensors())

    assert (await reading)[0].version.step == 10


async def test_a_numbered_version_that_the_reader_has_is_not_waited_for(
    service: Service, run: Run
) -> None:
    digest = (await run.publish(1, tensors())).digest

    for known in ({"newer_than": 1}, {"if_none_match": digest}):
        async with asyncio.timeout(DEADLINE):
            header, _, _ = await read(service, ask(run, version=1, wait=60.0, **known))
        assert header.not_modified


async def test_a_reader_learns_that_nothing_more_will_come(service: Service, run: Run) -> None:
    await run.publish(1, tensors(), final=True)
    assert not (await read(service, ask(run)))[0].job_ended
    await run.end()

    assert (await read(service, ask(run)))[0].job_ended
    header, *_ = await read(service, ask(run, newer_than=1, wait=10.0))
    assert (header.not_modified, header.job_ended) == (True, True)


# From where, and in which form


@pytest.mark.parametrize("patterns", [[], ["0.*"]])
@pytest.mark.parametrize("cast", ["", "BF16"])
async def test_a_broken_download_continues_at_any_byte(
    service: Service, run: Run, patterns: list[str], cast: str
) -> None:
    values = tensors(40_000) | {"2.bias": tensors(3, seed=2)["0.bias"]}
    await run.publish(1, values)
    size = 65_536
    plain = ask(run, *patterns, cast=cast, chunk_bytes=size)
    header, content, digest = await read(service, plain)
    assert digest == hashlib.sha256(content).hexdigest()
    assert header.size_bytes == len(content)

    for offset in (1, size - 1, size, size + 1, 2 * size, len(content) - 1, len(content)):
        request = ask(run, *patterns, cast=cast, chunk_bytes=size, offset=offset, version=1)
        again, rest, whole = await read(service, request)
        assert rest == content[offset:]
        assert (again.size_bytes, whole) == (len(content), digest)
    for offset in (-1, len(content) + 1):
        stream = service.parameters.StreamParameters(
            ask(run, *patterns, cast=cast, offset=offset)
        )
        await reason(read_all(stream), Code.INVALID_ARGUMENT)


@pytest.mark.parametrize(("cast", "dtype"), [("F16", np.float16), ("BF16", ml_dtypes.bfloat16)])
async def test_half_the_size_on_the_wire(
    service: Service, run: Run, cast: str, dtype: Any
) -> None:
    values = tensors(1_000)
    await run.publish(1, values)

    header, content, _ = await read(service, ask(run, cast=cast))
    unary = pb.GetParametersRequest(selector=selector(run.id), cast=cast_to_proto(cast))

    (length,) = struct.unpack("<Q", content[:8])
    manifest = decode_header(content[8 : 8 + length], "content")
    assert manifest.metadata["dbp.cast"] == cast
    for tensor in manifest.tensors:
        start = 8 + length + tensor.offset
        found = content[start : start + tensor.size_bytes]
        assert tensor.dtype == cast
        assert found == values[tensor.name].astype(dtype).tobytes()
    assert header.version.version == 1
    assert (await service.parameters.GetParameters(unary)).safetensors == content
    wrong = ask(run)
    wrong.cast = 8  # type: ignore[assignment]
    stream = service.parameters.StreamParameters(wrong)
    text = await refused(read_all(stream), Code.INVALID_ARGUMENT)
    assert "CAST_F16, CAST_BF16, got the number 8" in text


@pytest.mark.parametrize("chunk_bytes", [65_536, 100_000, 3 << 20])
async def test_chunks_of_the_size_asked_for(
    service: Service, run: Run, chunk_bytes: int
) -> None:
    values = tensors(600_000)
    await run.publish(1, values)

    messages = await read_all(
        service.parameters.StreamParameters(ask(run, chunk_bytes=chunk_bytes))
    )

    sizes = [len(message.chunk.data) for message in messages[1:-1]]
    assert set(sizes[:-1]) <= {chunk_bytes}
    assert 0 < sizes[-1] <= chunk_bytes
    content = b"".join(message.chunk.data for message in messages[1:-1])
    loaded = safetensors.numpy.load(content)
    assert all(np.array_equal(loaded[name], values[name]) for name in values)


@pytest.mark.parametrize("chunk_bytes", [-1, 1, 65_535, (3 << 20) + 1])
async def test_chunks_of_no_size(service: Service, run: Run, chunk_bytes: int) -> None:
    await run.publish(1, tensors())
    stream = service.parameters.StreamParameters(ask(run, chunk_bytes=chunk_bytes))

    await refused(read_all(stream), Code.INVALID_ARGUMENT)


async def test_the_file_says_where_it_is_from(service: Service, run: Run) -> None:
    first = await run.publish(1, tensors())
    await run.publish(2, tensors())

    header, content, _ = await read(service, ask(run, "0.bias"))

    with_metadata = decode_header(
        content[8 : 8 + int.from_bytes(content[:8], "little")], "content"
    ).metadata
    assert dict(header.manifest.metadata) == with_metadata
    assert with_metadata["dbp.job"] == run.id
    assert with_metadata["dbp.version"] == "2"
    assert with_metadata["dbp.step"] == "2"
    assert with_metadata["dbp.previous_digest"] == first.digest
