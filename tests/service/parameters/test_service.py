"""ParameterService over sockets: what a run published is what a reader gets, to the bit."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import safetensors.numpy

from dbp.v1 import job_pb2
from dbp.v1 import parameter_service_pb2 as pb
from tests.service.setups import Run, Service, read_all, refused, selector, tensors

Code = grpc.StatusCode
MIB = 1 << 20


def stream_of(service: Service, request: pb.StreamParametersRequest) -> Any:
    return service.parameters.StreamParameters(request)


async def streamed(
    service: Service, job_id: str, *patterns: str, version: int = 0
) -> tuple[pb.ParametersHeader, bytes]:
    """Header and bytes of a stream whose form is checked on the way."""
    request = pb.StreamParametersRequest(selector=selector(job_id, *patterns, version=version))
    first, *chunks, last = await read_all(stream_of(service, request))
    content = b""
    for message in chunks:
        assert message.chunk.offset == len(content)
        assert 0 < len(message.chunk.data) <= MIB
        content += message.chunk.data
    assert first.header.size_bytes == len(content)
    assert last.trailer.digest == hashlib.sha256(content).hexdigest()
    return first.header, content


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(
        np.array_equal(found[name], expected[name]) and found[name].dtype == np.float32
        for name in expected
    )


# Whole


async def test_read_tensors_equal_the_published_ones(service: Service, run: Run) -> None:
    values = tensors()
    published = await run.publish(7, values)

    answer = await service.parameters.GetParameters(
        pb.GetParametersRequest(selector=selector(run.id))
    )
    header, content = await streamed(service, run.id)

    assert same(safetensors.numpy.load(answer.safetensors), values)
    assert content == answer.safetensors
    assert answer.digest == published.digest == hashlib.sha256(content).hexdigest()
    assert answer.version == header.version == published
    assert (published.version, published.step, published.attempt) == (1, 7, 1)
    assert published.size_bytes == len(content)
    assert header.manifest.metadata == {
        "dbp.step": "7",
        "dbp.job": run.id,
        "dbp.version": "1",
        "dbp.attempt": "1",
        "dbp.previous_digest": "",
    }


async def test_info_describes_tensors_without_their_values(service: Service, run: Run) -> None:
    published = await run.publish(7, tensors())

    info = await service.parameters.GetParameterInfo(
        pb.GetParameterInfoRequest(selector=selector(run.id))
    )
    part = await service.parameters.GetParameterInfo(
        pb.GetParameterInfoRequest(selector=selector(run.id, "*.bias"))
    )

    assert info.version == published
    held = [(t.name, t.dtype, list(t.shape), t.size_bytes) for t in info.manifest.tensors]
    assert held == [("0.weight", "F32", [2, 6], 48), ("0.bias", "F32", [2], 8)]
    assert [(t.name, t.offset) for t in part.manifest.tensors] == [("0.bias", 0)]


async def test_large_parameters_come_in_chunks(service: Service, run: Run) -> None:
    values = tensors(600_000)  # 4.8 MB
    await run.publish(1, values)

    _, content = await streamed(service, run.id)

    assert same(safetensors.numpy.load(content), values)


async def test_large_parameters_are_too_much_for_one_message(
    service: Service, run: Run
) -> None:
    values = tensors(600_000)
    await run.publish(1, values)
    everything = pb.GetParametersRequest(selector=selector(run.id))
    bias = pb.GetParametersRequest(selector=selector(run.id, "0.bias"))

    text = await refused(service.parameters.GetParameters(everything), Code.FAILED_PRECONDITION)
    answer = await service.parameters.GetParameters(bias)

    assert "use StreamParameters" in text
    assert same(safetensors.numpy.load(answer.safetensors), {"0.bias": values["0.bias"]})


async def test_three_mebibytes_still_fit_into_one_message(service: Service, run: Run) -> None:
    values = {"0.weight": np.zeros((3 * MIB - 4096) // 4, np.float32)}
    await run.publish(1, values)

    answer = await service.parameters.GetParameters(
        pb.GetParametersRequest(selector=selector(run.id))
    )

    assert same(safetensors.numpy.load(answer.safetensors), values)


# In part


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["0.bias"], ["0.bias"]),
        (["*.bias"], ["0.bias", "2.bias"]),
        (["2.*", "0.weight"], ["0.weight", "2.weight", "2.bias"]),
        (["[02].weight"], ["0.weight", "2.weight"]),
        (["?.weight", "0.weight"], ["0.weight", "2.weight"]),
    ],
)
async def test_a_part_is_a_file_of_its_own(
    service: Service, run: Run, patterns: list[str], names: list[str]
) -> None:
    first, second = tensors(seed=1), tensors(200_000, seed=2)
    values = first | {"2.weight": second["0.weight"], "2.bias": second["0.bias"]}
    published = await run.publish(1, values)

    header, content = await streamed(service, run.id, *patterns)
    answer = await service.parameters.GetParameters(
        pb.GetParametersRequest(selector=selector(run.id, *patterns))
    )

    assert same(safetensors.numpy.load(content), {name: values[name] for name in names})
    assert [tensor.name for tensor in header.manifest.tensors] == names
    assert answer.safetensors == content
    assert answer.digest == hashlib.sha256(content).hexdigest() != published.digest
    assert header.version == published


async def test_patterns_that_leave_nothing_out_give_the_whole_file(
    service: Service, run: Run
) -> None:
    published = await run.publish(1, tensors())

    _, content = await streamed(service, run.id, "*")

    assert hashlib.sha256(content).hexdigest() == published.digest


async def test_a_pattern_that_matches_nothing_is_not_found(service: Service, run: Run) -> None:
    await run.publish(1, tensors())
    request = pb.GetParametersRequest(selector=selector(run.id, "*.bias", "0.wieght"))

    text = await refused(service.parameters.GetParameters(request), Code.NOT_FOUND)

    assert "'0.wieght'" in text
    assert "nearest: 0.weight" in text


# Versions


async def test_a_version_that_is_not_there_says_why(service: Service, run: Run) -> None:
    def read(job_id: str, version: int = 0) -> Any:
        request = pb.GetParametersRequest(selector=selector(job_id, version=version))
        return service.parameters.GetParameters(request)

    text = await refused(read(run.id), Code.FAILED_PRECONDITION)
    assert "no parameters are published yet" in text
    for step in range(1, 5):
        await run.publish(step, tensors(seed=step))

    assert (await read(run.id)).version.version == 4
    assert (await read(run.id, 3)).version.step == 3
    text = await refused(read(run.id, 1), Code.OUT_OF_RANGE)
    assert "no longer kept; kept: 3, 4" in text
    text = await refused(read(run.id, 5), Code.NOT_FOUND)
    assert "the newest is 4" in text
    await refused(read(run.id, -1), Code.INVALID_ARGUMENT)
    await refused(read("digits-x"), Code.NOT_FOUND)
    await refused(read(""), Code.INVALID_ARGUMENT)


async def test_every_method_refuses_alike(service: Service, run: Run) -> None:
    chosen = selector(run.id)
    parameters = service.parameters

    for call in (
        parameters.GetParameterInfo(pb.GetParameterInfoRequest(selector=chosen)),
        parameters.GetParameters(pb.GetParametersRequest(selector=chosen)),
        read_all(stream_of(service, pb.StreamParametersRequest(selector=chosen))),
    ):
        await refused(call, Code.FAILED_PRECONDITION)


async def test_a_reader_keeps_its_version_while_newer_ones_come(
    service: Service, run: Run
) -> None:
    values = tensors(2_000_000)  # 16 MB: more than is sent without being asked for
    await run.publish(1, values)
    stream = stream_of(service, pb.StreamParametersRequest(selector=selector(run.id)))
    first = await stream.read()

    for step in range(2, 6):
        await run.publish(step, tensors(seed=step))
    rest = await read_all(stream)

    assert first.header.version.version == 1
    content = b"".join(message.chunk.data for message in rest)
    assert same(safetensors.numpy.load(content), values)


async def test_the_last_parameters_of_an_ended_job_stay_readable(
    service: Service, run: Run
) -> None:
    values = tensors()
    await run.publish(9, values, final=True)
    await run.end()

    header, content = await streamed(service, run.id)

    assert header.version.final
    assert same(safetensors.numpy.load(content), values)
    assert (await service.get(run.id)).latest_parameters == header.version


async def test_damaged_bytes_are_never_served(
    service: Service, run: Run, tmp_path: Path
) -> None:
    await run.publish(1, tensors())
    path = tmp_path / "state" / "jobs" / run.id / "parameters" / "1.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    request = pb.StreamParametersRequest(selector=selector(run.id))
    text = await refused(read_all(stream_of(service, request)), Code.DATA_LOSS)

    assert "damaged" in text


# Only if newer, and waiting


async def test_nothing_is_sent_unless_it_is_newer(service: Service, run: Run) -> None:
    published = await run.publish(1, tensors())

    def get(newer_than: int) -> Any:
        request = pb.GetParametersRequest(selector=selector(run.id), newer_than=newer_than)
        return service.parameters.GetParameters(request)

    assert not (await get(0)).not_modified
    same_version = await get(1)
    assert same_version.not_modified
    assert same_version.safetensors == b""
    assert same_version.version == published
    assert (await get(2)).not_modified
    await run.publish(2, tensors())
    assert (await get(1)).version.version == 2
    await refused(get(-1), Code.INVALID_ARGUMENT)


def waiting(
    job_id: str, newer_than: int, seconds: float = 15.0, version: int = 0
) -> pb.StreamParametersRequest:
    request = pb.StreamParametersRequest(
        selector=selector(job_id, version=version), newer_than=newer_than
    )
    request.wait.FromMilliseconds(round(seconds * 1000))
    return request


async def header_of(service: Service, request: pb.StreamParametersRequest) -> Any:
    return (await read_all(stream_of(service, request)))[0].header


async def test_a_stream_without_a_wait_answers_at_once(service: Service, run: Run) -> None:
    await run.publish(1, tensors())
    request = pb.StreamParametersRequest(selector=selector(run.id), newer_than=1)

    (message,) = await read_all(stream_of(service, request))

    assert message.header.not_modified
    assert message.header.version.version == 1


async def test_a_waiting_reader_gets_the_next_version(service: Service, run: Run) -> None:
    first = asyncio.create_task(header_of(service, waiting(run.id, 0)))
    await asyncio.sleep(0.05)
    await run.publish(1, tensors())
    assert (await first).version.version == 1

    second = asyncio.create_task(header_of(service, waiting(run.id, 1)))
    await asyncio.sleep(0.05)
    assert not second.done()
    await run.publish(2, tensors())
    header = await second
    assert (header.version.version, header.not_modified) == (2, False)


async def test_a_wait_is_over_in_time(service: Service, run: Run) -> None:
    text = await refused(
        read_all(stream_of(service, waiting(run.id, 0, 0.05))), Code.FAILED_PRECONDITION
    )
    assert "published yet" in text
    await run.publish(1, tensors())
    began = time.monotonic()

    header = await header_of(service, waiting(run.id, 1, 0.05))

    assert header.not_modified
    assert time.monotonic() - began > 0.04


async def test_a_wait_ends_with_the_job(service: Service, run: Run) -> None:
    await run.publish(1, tensors())
    reader = asyncio.create_task(header_of(service, waiting(run.id, 1)))
    await asyncio.sleep(0.05)

    await run.end()

    assert (await reader).not_modified


@pytest.mark.parametrize("seconds", [0.0, -5.0])
async def test_no_time_to_wait_is_no_wait(service: Service, run: Run, seconds: float) -> None:
    await run.publish(1, tensors())

    assert (await header_of(service, waiting(run.id, 1, seconds))).not_modified


async def test_a_numbered_version_can_be_waited_for(service: Service, run: Run) -> None:
    await run.publish(1, tensors())

    header = await header_of(service, waiting(run.id, 0, version=1))
    assert header.version.version == 1
    too_short = stream_of(service, waiting(run.id, 0, 0.05, version=3))
    await refused(read_all(too_short), Code.NOT_FOUND)
    reader = asyncio.create_task(header_of(service, waiting(run.id, 0, version=2)))
    await asyncio.sleep(0.05)
    await run.publish(2, tensors())
    assert (await reader).version.version == 2


async def test_waiting_readers_get_an_error_when_the_service_shuts_down(
    service: Service, run: Run
) -> None:
    reader = asyncio.create_task(
        refused(read_all(stream_of(service, waiting(run.id, 0))), Code.UNAVAILABLE)
    )
    await asyncio.sleep(0.05)

    await service.stop()

    assert "shutting down" in await reader


async def test_many_readers_get_the_same_bytes(service: Service, run: Run) -> None:
    await run.publish(1, tensors(300_000))

    found = await asyncio.gather(*(streamed(service, run.id) for _ in range(8)))

    assert len({content for _, content in found}) == 1


def test_chunks_stay_below_the_limit_of_a_message() -> None:
    chunk = pb.ParametersChunk(offset=2**62, data=b"x" * MIB)
    version = job_pb2.ParameterVersion(version=2**62, digest="f" * 64)
    answer = pb.GetParametersResponse(version=version, safetensors=b"x" * 3 * MIB)

    assert pb.StreamParametersResponse(chunk=chunk).ByteSize() < 4 * MIB
    assert answer.ByteSize() < 4 * MIB
