"""Answers written by hand are the protocol's messages."""

from __future__ import annotations

import pytest

from dbp.inference import open_inference_pb2 as pb
from dbp.job.state import Version
from dbp.service.inference.answer_bytes import AnswerHeads, finished
from dbp.service.inference.signature import TensorSpec

VERSION = Version(3, 700, 1, "abc", 10, 0.0)
OUTPUTS = (TensorSpec("outputs", "FP32", (2, 5), 40), TensorSpec("class", "INT64", (), 8))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 3_000_000])
@pytest.mark.parametrize("request_id", ["", "mine", "\u00e9" * 100])
def test_an_answer_is_the_message_that_it_says(size: int, request_id: str) -> None:
    contents = [bytes([7]) * size, b""]
    expected = pb.ModelInferResponse(
        model_name="job@best",
        model_version="3",
        id=request_id,
        raw_output_contents=contents,
        outputs=[
            {"name": "outputs", "datatype": "FP32", "shape": (4, 2, 5)},
            {"name": "class", "datatype": "INT64", "shape": (4,)},
        ],
    )
    expected.parameters["job"].string_param = "job"
    expected.parameters["version"].int64_param = 3
    expected.parameters["step"].int64_param = 700
    expected.parameters["digest"].string_param = "abc"

    head = AnswerHeads("job", VERSION).head("job@best", (), OUTPUTS, 4)

    assert pb.ModelInferResponse.FromString(finished(head, request_id, contents)) == expected


def test_heads_are_cached_by_name_outputs_and_shape() -> None:
    heads = AnswerHeads("job", VERSION)
    first = heads.head("job", (), OUTPUTS, 1)

    assert heads.head("job", (), OUTPUTS, 1) is first
    others = (
        heads.head("other", (), OUTPUTS, 1),
        heads.head("job", ("class",), OUTPUTS[1:], 1),
        heads.head("job", (), OUTPUTS, 2),
    )
    assert len({first, *others}) == 4


def test_memory_of_heads_is_bounded() -> None:
    heads = AnswerHeads("job", VERSION)

    first = heads.head("job", (), OUTPUTS, 0)
    for rows in range(1, 1_000):
        heads.head("job", (), OUTPUTS, rows)

    again = heads.head("job", (), OUTPUTS, 0)
    assert again == first
    assert again is not first
