"""Contents of tensors, raw and typed, for any numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dbp.errors import InvalidInput
from dbp.inference import open_inference_pb2 as pb
from dbp.service.inference.tensor_codec import DTYPES, decoded, encoded_texts

TYPED = {
    "FP32": "fp32_contents", "FP64": "fp64_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents",
    "UINT32": "uint_contents", "UINT64": "uint64_contents",
}  # fmt: skip

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


def tensor(datatype: str, shape: tuple[int, ...]) -> pb.ModelInferRequest.InferInputTensor:
    return pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=shape)


@given(st.data(), st.sampled_from(sorted(DTYPES)))
def test_raw_contents_are_the_bits_that_were_sent(data: st.DataObject, datatype: str) -> None:
    dtype = DTYPES[datatype]
    shape = data.draw(SHAPES)
    sent = data.draw(hnp.arrays(np.uint8, (*shape, dtype.itemsize))).tobytes()

    found = decoded(tensor(datatype, shape), sent, shape[1:])

    assert (found.shape, found.dtype) == (shape, dtype)
    assert found.tobytes() == sent


@given(st.data(), st.sampled_from(sorted(TYPED)))
def test_typed_contents_are_the_numbers_that_were_sent(
    data: st.DataObject, datatype: str
) -> None:
    sent = data.draw(hnp.arrays(DTYPES[datatype], SHAPES))
    given_ = tensor(datatype, sent.shape)
    getattr(given_.contents, TYPED[datatype]).extend(sent.reshape(-1).tolist())

    found = decoded(given_, None, sent.shape[1:])

    assert found.dtype == DTYPES[datatype]
    np.testing.assert_array_equal(found, sent)


@pytest.mark.parametrize(
    ("datatype", "field", "low", "high"),
    [
        ("INT8", "int_contents", -128, 127),
        ("INT16", "int_contents", -32_768, 32_767),
        ("UINT8", "uint_contents", 0, 255),
        ("UINT16", "uint_contents", 0, 65_535),
    ],
)
def test_typed_numbers_beyond_their_type_are_refused(
    datatype: str, field: str, low: int, high: int
) -> None:
    for value in (low, high):
        given_ = tensor(datatype, (1,))
        getattr(given_.contents, field).append(value)
        assert decoded(given_, None, ()).tolist() == [value]
    for value in (low - 1, high + 1):
        if value < 0 and low == 0:
            continue  # the field takes none
        given_ = tensor(datatype, (1,))
        getattr(given_.contents, field).append(value)
        with pytest.raises(InvalidInput, match=f"must be {low} to {high} for {datatype}"):
            decoded(given_, None, ())


@pytest.mark.parametrize("bytes_", [0, 7, 9, 16])
def test_a_wrong_number_of_bytes_is_reported(bytes_: int) -> None:
    with pytest.raises(InvalidInput, match=f"takes 8 bytes of raw contents, got {bytes_}"):
        decoded(tensor("FP32", (1, 2)), bytes(bytes_), (2,))


@pytest.mark.parametrize("shape", [(), (2,), (1, 3), (1, 2, 1), (-1, 2), (2**40, 3)])
def test_another_shape_is_reported(shape: Any) -> None:
    with pytest.raises(InvalidInput, match=r"shape must be \[-1, 2\], got "):
        decoded(tensor("FP32", shape), b"", (2,))


def test_no_shape_takes_memory_that_the_contents_do_not_hold() -> None:
    with pytest.raises(InvalidInput, match="raw contents, got 8"):
        decoded(tensor("FP64", (2**60, 2)), bytes(8), (2,))
    with pytest.raises(InvalidInput, match=r"values in contents\.fp32_contents, got 0"):
        decoded(tensor("FP32", (2**60, 2)), None, (2,))


def test_texts_follow_their_lengths() -> None:
    assert encoded_texts(["", "ab", "\u00e9"]) == (
        b"\0\0\0\0", b"\2\0\0\0ab", b"\2\0\0\0\xc3\xa9",
    )  # fmt: skip
