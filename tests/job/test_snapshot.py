"""Safetensors framing against the safetensors package, and against damaged headers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.errors import InvalidFile
from dbp.job.snapshot import (
    ITEM_BYTES,
    MAX_HEADER_BYTES,
    Manifest,
    TensorInfo,
    decode_header,
    encode_header,
    header_length,
    manifest_of,
)

NUMPY = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip


def split(content: bytes) -> tuple[Manifest, bytes]:
    length = header_length(content[:8], "test")
    return decode_header(content[8 : 8 + length], "test"), content[8 + length :]


@pytest.mark.parametrize("dtype", sorted(NUMPY))
def test_the_package_reads_what_we_write(dtype: str) -> None:
    shapes = {"0.weight": (3, 2), "0.bias": (3,), "scalar": (), "none": (0, 4)}
    arrays = {
        name: np.arange(np.prod(shape, dtype=int)).astype(NUMPY[dtype]).reshape(shape)
        for name, shape in shapes.items()
    }
    manifest = manifest_of(shapes, dtype, {"dbp.step": "7", "é": "ü"})

    content = encode_header(manifest) + b"".join(a.tobytes() for a in arrays.values())

    read = safetensors.numpy.load(content)
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        assert np.array_equal(read[name], array)


def test_the_package_reads_our_metadata(tmp_path: Any) -> None:
    manifest = manifest_of({"x": (2,)}, "F32", {"dbp.step": "7", "é": "ü"})
    path = tmp_path / "x.safetensors"
    path.write_bytes(encode_header(manifest) + bytes(8))

    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"dbp.step": "7", "é": "ü"}


@pytest.mark.parametrize("dtype", sorted(NUMPY))
def test_we_read_what_the_package_writes(dtype: str) -> None:
    arrays = {
        "b": np.arange(6).astype(NUMPY[dtype]).reshape(2, 3),
        "a": np.ones((), NUMPY[dtype]),
        "empty": np.zeros((0, 3), NUMPY[dtype]),
    }

    manifest, data = split(safetensors.numpy.save(arrays, {"k": "v"}))

    assert manifest.metadata == {"k": "v"}
    assert manifest.size_bytes == len(data)
    assert {t.name for t in manifest.tensors} == set(arrays)
    for tensor in manifest.tensors:
        part = data[tensor.offset : tensor.offset + tensor.size_bytes]
        array = np.frombuffer(part, NUMPY[tensor.dtype]).reshape(tensor.shape)
        assert np.array_equal(array, arrays[tensor.name])


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])).filter(lambda n: n != "__metadata__"),
        st.lists(st.integers(0, 5), max_size=4),
        max_size=6,
    ),
    st.sampled_from(sorted(ITEM_BYTES)),
)
@settings(max_examples=150, deadline=None)
def test_a_header_reads_back_as_its_manifest(shapes: dict[str, list[int]], dtype: str) -> None:
    manifest = manifest_of(shapes, dtype, {})

    content = encode_header(manifest)

    assert len(content) % 8 == 0
    read, rest = split(content)
    assert rest == b""
    assert set(read.tensors) == set(manifest.tensors)
    assert read.size_bytes == manifest.size_bytes


def test_an_empty_tensor_may_lie_anywhere_between_others() -> None:
    tensors = (
        TensorInfo("full", "F32", (2,), 0),
        TensorInfo("empty", "F32", (0,), 0),
        TensorInfo("end", "F32", (0,), 8),
    )

    read, _ = split(encode_header(Manifest(tensors)))

    assert {t.name for t in read.tensors} == {"full", "empty", "end"}


def entry(**change: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **change}


DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"3",
    "not UTF-8": b'{"\xff": 1}',
    "UTF-16": json.dumps({"x": entry()}).encode("utf-16"),
    "a name twice": b'{"x": %s, "x": %s}' % ((json.dumps(entry()).encode(),) * 2),
    "metadata twice": b'{"__metadata__": {}, "__metadata__": {}}',
    "metadata a list": b'{"__metadata__": []}',
    "metadata null": b'{"__metadata__": null}',
    "metadata of numbers": b'{"__metadata__": {"a": 1}}',
    "a lone surrogate as a name": b'{"\\ud800": {}}',
    "a lone surrogate in metadata": b'{"__metadata__": {"a": "\\ud800"}}',
    "nested too deep": b'{"x":' + b"[" * 200_000,
    "a number of 5000 digits": b'{"x": ' + b"9" * 5000 + b"}",
    "an entry that is a list": b'{"x": []}',
    "an entry that is null": b'{"x": null}',
}
ENTRIES: dict[str, Any] = {
    "unknown dtype": entry(dtype="F8"),
    "dtype a list": entry(dtype=[]),
    "dtype a number": entry(dtype=4),
    "shape a string": entry(shape="2"),
    "shape a table": entry(shape={"2": 2}),
    "shape a number": entry(shape=2),
    "a negative dimension": entry(shape=[-2]),
    "a fractional dimension": entry(shape=[2.0]),
    "a boolean dimension": entry(shape=[True, 2]),
    "a huge dimension": entry(shape=[2**63]),
    "huge dimensions": entry(shape=[2**62] * 64),
    "huge dimensions and a zero": entry(shape=[2**63, 0], data_offsets=[0, 0]),
    "a million dimensions": entry(shape=[1] * 1_000_000),
    "begin > end": entry(data_offsets=[8, 0]),
    "one offset": entry(data_offsets=[8]),
    "three offsets": entry(data_offsets=[0, 8, 8]),
    "offsets a string": entry(data_offsets="08"),
    "boolean offsets": entry(shape=[0], data_offsets=[False, False]),
    "negative offsets": entry(data_offsets=[-8, 0]),
    "too long": entry(data_offsets=[0, 9]),
    "too short": entry(data_offsets=[0, 4]),
    "a gap in front": entry(data_offsets=[4, 12]),
    "a missing key": {"dtype": "F32", "shape": [2]},
    "an unknown key": entry(extra=1),
}
DAMAGED |= {name: json.dumps({"x": value}).encode() for name, value in ENTRIES.items()}
DAMAGED["overlapping tensors"] = json.dumps({"x": entry(), "y": entry()}).encode()
DAMAGED["a gap between"] = json.dumps({"x": entry(), "y": entry(data_offsets=[9, 17])}).encode()


@pytest.mark.parametrize("header", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_header_is_refused_with_the_name_of_its_source(header: bytes) -> None:
    with pytest.raises(InvalidFile) as caught:
        decode_header(header, "v7.safetensors")

    assert str(caught.value).startswith("v7.safetensors: ")
    assert len(str(caught.value)) < 400


TOO_LONG = (MAX_HEADER_BYTES + 1).to_bytes(8, "little")


@pytest.mark.parametrize("prefix", [b"", b"\x08\0\0\0\0\0\0", TOO_LONG, b"\xff" * 8])
def test_a_file_that_cannot_be_one_is_refused_by_its_first_bytes(prefix: bytes) -> None:
    with pytest.raises(InvalidFile, match="v7: not a safetensors file"):
        header_length(prefix, "v7")


GOOD = encode_header(manifest_of({"0.weight": (3, 2), "0.bias": (3,)}, "F32", {"k": "v"}))[8:]


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=4), st.integers(0, 8))
@settings(max_examples=500, deadline=None)
def test_damage_anywhere_raises_invalid_file_and_nothing_else(
    at: int, noise: bytes, cut: int
) -> None:
    damaged = GOOD[:at] + noise + GOOD[at + cut :]

    try:
        manifest = decode_header(damaged, "x")
    except InvalidFile as error:
        assert str(error).startswith("x: ")  # noqa: PT017 - one of two good ends
    else:
        assert decode_header(encode_header(manifest)[8:], "x") == manifest


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(InvalidFile):
        decode_header(b"\0" + content, "x")
