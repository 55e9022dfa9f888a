"""Read the bytes of a version: from any byte on, in chunks, in another type."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from dbp.job.snapshot import decode_header
from dbp.rpc.enums import cast_to_proto
from dbp.v1 import parameter_service_pb2 as pb
from tests.service.parameters.reading import Code, ask, read, reason
from tests.service.setups import Run, Service, read_all, refused, selector, tensors


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
