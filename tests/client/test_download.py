"""Parameters on their way: what arrives is what was sent, or an error."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from dbp.client.download import receive, write_whole
from dbp.client.parameter_set import parameter_set
from dbp.errors import DataLoss, InvalidFile, Unavailable
from dbp.job.snapshot import Manifest, TensorInfo, encode_header, manifest_of
from dbp.job.state import Version
from dbp.v1 import job_pb2
from dbp.v1 import parameter_service_pb2 as pb

CONTENT = bytes(range(256)) * 10
VERSION = Version(3, 70, 1, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), 0.0)


def messages(
    content: bytes = CONTENT, *, size: int | None = None, digest: str | None = None
) -> list[pb.StreamParametersResponse]:
    """A header, chunks of 1000 bytes, a trailer."""
    version = job_pb2.ParameterVersion(version=3, step=70, digest=VERSION.digest)
    length = len(content) if size is None else size
    header = pb.ParametersHeader(version=version, size_bytes=length)
    chunks = [
        pb.ParametersChunk(offset=start, data=content[start : start + 1000])
        for start in range(0, len(content), 1000)
    ]
    trailer = pb.ParametersTrailer(digest=digest or hashlib.sha256(content).hexdigest())
    return [
        pb.StreamParametersResponse(header=header),
        *(pb.StreamParametersResponse(chunk=chunk) for chunk in chunks),
        pb.StreamParametersResponse(trailer=trailer),
    ]


async def stream(
    parts: list[pb.StreamParametersResponse],
) -> AsyncIterator[pb.StreamParametersResponse]:
    for part in parts:
        yield part


async def test_chunks_become_one_read_only_buffer() -> None:
    version, content = await receive(stream(messages()), whole=True)

    assert version.version == 3
    assert content is not None
    assert bytes(content) == CONTENT
    assert content.readonly


async def test_nothing_newer_is_no_bytes() -> None:
    parts = messages()[:1]
    parts[0].header.not_modified = True

    version, content = await receive(stream(parts), whole=True)

    assert version.step == 70
    assert content is None


async def test_a_changed_bit_is_data_loss() -> None:
    parts = messages()
    parts[2].chunk.data = bytes([parts[2].chunk.data[0] ^ 1]) + parts[2].chunk.data[1:]

    with pytest.raises(DataLoss, match="version 3: the digest is not"):
        await receive(stream(parts), whole=True)


async def test_bytes_that_are_not_the_versions_own_are_data_loss_though_the_trailer_fits() -> (
    None
):
    other = CONTENT[::-1]

    with pytest.raises(DataLoss):
        await receive(stream(messages(other)), whole=True)
    version, content = await receive(stream(messages(other)), whole=False)
    assert content is not None
    assert bytes(content) == other
    assert version.digest == VERSION.digest


@pytest.mark.parametrize("size", [0, len(CONTENT) - 1, len(CONTENT) + 1])
async def test_a_wrong_length_is_data_loss(size: int) -> None:
    with pytest.raises(DataLoss):
        await receive(stream(messages(size=size)), whole=True)


@pytest.mark.parametrize("missing", [1, 2])
async def test_a_missing_chunk_is_data_loss(missing: int) -> None:
    parts = messages()
    del parts[missing]

    with pytest.raises(DataLoss):
        await receive(stream(parts), whole=True)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
async def test_a_stream_without_its_trailer_was_cut(count: int) -> None:
    with pytest.raises(Unavailable, match="was cut; ask again"):
        await receive(stream(messages()[:count]), whole=True)


async def test_a_trailer_without_a_header_is_no_answer() -> None:
    with pytest.raises(Unavailable):
        await receive(stream(messages()[-1:]), whole=True)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"old")

    write_whole(file, memoryview(b"new"))

    assert file.read_bytes() == b"new"
    for bad in (tmp_path / "no" / "file", file / "file", tmp_path):
        with pytest.raises(OSError):  # noqa: PT011 - which one depends on the path
            write_whole(bad, memoryview(b"new"))
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def content_of(manifest: Manifest, data: bytes) -> memoryview:
    return memoryview(encode_header(manifest) + data)


def test_tensors_are_views_of_the_file_little_endian() -> None:
    values = np.arange(6, dtype="<f8")
    manifest = manifest_of({"0.weight": (2, 2), "0.bias": (2,)}, "F64", {"dbp.step": "70"})
    content = content_of(manifest, values.tobytes())

    found = parameter_set(VERSION, content)

    np.testing.assert_array_equal(found["0.weight"], [[0.0, 1.0], [2.0, 3.0]])
    np.testing.assert_array_equal(found["0.bias"], [4.0, 5.0])
    assert found["0.bias"].dtype == np.dtype("<f8")
    assert found.metadata == {"dbp.step": "70"}
    assert np.shares_memory(found["0.bias"], np.frombuffer(content, np.uint8))


def test_a_scalar_and_an_empty_tensor_have_their_shapes() -> None:
    tensors = (TensorInfo("empty", "F32", (0, 3), 0), TensorInfo("scalar", "F32", (), 0))

    found = parameter_set(VERSION, content_of(Manifest(tensors), np.float32(7).tobytes()))

    assert found["empty"].shape == (0, 3)
    assert found["scalar"].shape == ()
    assert found["scalar"] == 7


def test_a_file_that_contradicts_its_header_is_refused() -> None:
    manifest = manifest_of({"0.bias": (2,)}, "F32", {})

    with pytest.raises(DataLoss, match="7 bytes came, the header says 8"):
        parameter_set(VERSION, content_of(manifest, bytes(7)))
    with pytest.raises(InvalidFile, match="version 3"):
        parameter_set(VERSION, memoryview(b"nonsense" * 8))
