"""The safetensors reader against the format's own library, and against hostile headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from dbp.data import rows as rows_module
from dbp.data.safetensors import Safetensors
from dbp.data.safetensors_format import MAX_HEADER_BYTES
from dbp.errors import InvalidData

LABELS = np.array([0, 1, 2, 1, 0, 2, 1], np.uint8)
RNG = np.random.default_rng(0)


def file_of(folder: Path, **tensors: np.ndarray) -> str:
    path = folder / "all.safetensors"
    save_file(tensors, path, metadata={"by": "a test"})
    return str(path)


@pytest.mark.parametrize("limit", [10, 2**20])
@pytest.mark.parametrize(
    "dtype", ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
)
def test_every_type_is_read_from_memory_and_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, limit: int
) -> None:
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", limit)
    x = (RNG.normal(size=(7, 3, 2)) ** 2).astype(dtype)
    weights = np.linspace(0, 1, 7, dtype=np.float32)
    path = file_of(tmp_path, images=x, labels=LABELS, w=weights, other=np.ones((2, 2)))

    reader = Safetensors(path=path, inputs="images", targets="labels", weights="w")
    dataset = reader.open()

    assert dataset.info == reader.inspect()
    assert (dataset.info.input_dtype, dataset.info.target_kind) == (np.dtype(dtype), "class")
    chosen = np.array([6, 0, 1, 2, 2])
    inputs, targets, found = np.empty((5, 3, 2), dtype), np.empty(5, np.int64), np.empty(5)
    dataset.take_inputs(chosen, inputs)
    dataset.take_targets(chosen, targets)
    dataset.take_weights(chosen, found)
    np.testing.assert_array_equal(inputs, x[chosen])
    np.testing.assert_array_equal(targets, LABELS[chosen])
    np.testing.assert_array_equal(found, weights[chosen])


def framed(header: str | bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def entry(dtype: Any, shape: Any, begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


X = entry("F32", [3, 2], 0, 24)
Y = entry("U8", [3], 24, 27)
BODY = bytes(27)


def table(body: bytes = BODY, **entries: Any) -> bytes:
    return framed(json.dumps({"x": X, "y": Y} | entries), body)


CASES: dict[str, tuple[bytes, list[str]]] = {
    "empty": (b"", ["is empty"]),
    "another format": (b"hello\0 world", ["not a safetensors file", "68 65"]),
    "seven bytes": (b"1234567", ["not a safetensors file"]),
    "a header beyond the file": (framed("{}", length=2**63), ["not a safetensors file"]),
    "a header of no bytes": (framed("", BODY), ["not a safetensors file"]),
    "a header beyond reason": (
        framed(b"{}".ljust(MAX_HEADER_BYTES + 1)),
        ["a header of 4,194,305 bytes"],
    ),
    "no JSON": (framed("{x}", BODY), ["unreadable"]),
    "no UTF-8": (framed(b'{"\xff":1}', BODY), ["unreadable"]),
    "a lone surrogate": (framed(r'{"\ud800":1}', BODY), ["unreadable"]),
    "no table": (framed("[]"), ["unreadable", "no table"]),
    "nested without end": (framed("[" * 100_000), ["unreadable"]),
    "a number without end": (framed('{"x":' + "9" * 5000 + "}"), ["unreadable"]),
    "NaN": (framed('{"x": NaN}'), ["unreadable", "NaN"]),
    "a name twice": (framed('{"x":1,"x":2}'), ["unreadable", "twice"]),
    "metadata of another kind": (table(__metadata__=3), ["unreadable", "__metadata__"]),
    "an entry of another kind": (table(x=3), ["unreadable", "'x'"]),
    "an entry without shape": (table(x={"dtype": "F32"}), ["unreadable", "'x'"]),
    "an entry with more in it": (table(x=X | {"code": "1"}), ["unreadable", "'x'"]),
    "a dtype of another kind": (table(x=entry(4, [3, 2], 0, 24)), ["dtype is no text"]),
    "a negative shape": (table(x=entry("F32", [-3, -2], 0, 24)), ["shape is no list"]),
    "a shape of true": (table(x=entry("F32", [True, 6], 0, 24)), ["shape is no list"]),
    "a shape of fractions": (table(x=entry("F32", [3.0, 2], 0, 24)), ["shape is no list"]),
    "a shape beyond 64 bits": (table(x=entry("F32", [2**64], 0, 24)), ["shape is no list"]),
    "a product beyond 64 bits": (
        table(x=entry("F32", [2**62, 2**62], 0, 24)),
        ["[x]", "needs", "gives it 24"],
    ),
    "more dimensions than arrays have": (
        table(x=entry("F32", [6] + [1] * 64, 0, 24)),
        ["[x]", "65 dimensions"],
    ),
    "a range backwards": (table(x=entry("F32", [3, 2], 24, 0)), ["no range of bytes"]),
    "a negative range": (table(x=entry("F32", [3, 2], -24, 0)), ["no range of bytes"]),
    "a range of three": (
        table(x={"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 1, 24]}),
        ["no range of bytes"],
    ),
    "an overlap": (table(y=entry("U8", [3], 21, 24)), ["'y' overlaps another"]),
    "a gap": (table(y=entry("U8", [3], 25, 28)), ["'y' leaves a gap"]),
    "too short": (table(BODY[:-1]), ["too short", "27", "found 26"]),
    "too long": (table(BODY + b"1"), ["too long", "found 28"]),
    "another length than its shape": (
        table(x=entry("F64", [3, 2], 0, 24)),
        ["[x]", "(3, 2) of F64 needs 48 bytes", "gives it 24"],
    ),
    "a type that numpy has not": (
        table(x=entry("BF16", [3, 4], 0, 24)),
        ["[x]", "'BF16'", "accepted: BOOL"],
    ),
    "no such tensor": (
        framed(json.dumps({"images": X, "yy": Y}), BODY),
        ["no tensor 'x'", "it holds: 'images', 'yy'", 'inputs = "images"'],
    ),
    "no tensors": (framed("{}"), ["no tensor 'x'", "it holds: none"]),
    "unequal": (table(y=entry("U8", [1, 3], 24, 27)), ["[x] holds 3", "[y] holds 1"]),
    "one number": (table(y=entry("U8", [], 24, 25), body=bytes(25)), ["[y]", "single number"]),
    "a NaN": (
        table(np.full(6, np.nan, "<f4").tobytes() + bytes(3)),
        ["[x]", "sample 0", "nan"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_refused_with_its_name_and_fault(tmp_path: Path, case: str) -> None:
    content, fragments = CASES[case]
    (tmp_path / "bad.safetensors").write_bytes(content)

    with pytest.raises(InvalidData) as caught:
        Safetensors(path=str(tmp_path / "bad.safetensors")).open()

    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value)) < 1000
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_the_table_that_the_bad_files_modify_is_readable(tmp_path: Path) -> None:
    (tmp_path / "good.safetensors").write_bytes(table())

    info = Safetensors(path=str(tmp_path / "good.safetensors")).open().info

    assert (info.samples, info.input_shape, info.target_kind) == (3, (2,), "class")
