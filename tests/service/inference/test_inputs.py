"""Inputs of models over the inference protocol: number types, contents, limits."""

from __future__ import annotations

from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from dbp.inference import open_inference_pb2 as pb
from dbp.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from dbp.service.inference import signature as inference_signature
from tests.service.inference.requests import INVALID, request, rows, sent
from tests.service.inference.setups import classifier, constant, drawn, publish, saved
from tests.service.setups import Run, Service, refused


@pytest.mark.parametrize(
    "dtype",
    ["f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ml_dtypes.bfloat16],
    ids=str,
)
async def test_inputs_of_any_number_type_are_converted(
    service: Service, run: Run, stub: GRPCInferenceServiceStub, dtype: Any
) -> None:
    tensors, x = drawn(classifier()), rows(4).astype(dtype)
    await publish(service, run, 1, tensors, classifier())
    kind = "BF16" if dtype is ml_dtypes.bfloat16 else _datatype(x.dtype)
    asked = pb.ModelInferRequest(model_name=run.id, raw_input_contents=[x.tobytes()])
    asked.inputs.add(name="inputs", datatype=kind, shape=x.shape)

    answer = await stub.ModelInfer(asked)

    expected = saved(tensors, classifier()).probabilities(x.astype(np.float32))
    assert answer.raw_output_contents[0] == expected.tobytes()


def _datatype(dtype: np.dtype[Any]) -> str:
    kind = {"f": "FP", "i": "INT", "u": "UINT"}[dtype.kind]
    return f"{kind}{8 * dtype.itemsize}"


async def test_triton_s_own_bfloat16_and_half(
    service: Service, run: Run, client: triton_aio.InferenceServerClient
) -> None:
    tensors, x = drawn(classifier()), np.round(rows(4))
    await publish(service, run, 1, tensors, classifier())
    expected = saved(tensors, classifier()).probabilities(x)

    half = await client.infer(run.id, [sent(x.astype(np.float16))])
    brain = await client.infer(run.id, [sent(x.astype(ml_dtypes.bfloat16), "BF16")])

    np.testing.assert_array_equal(half.as_numpy("outputs"), expected)
    np.testing.assert_array_equal(brain.as_numpy("outputs"), expected)


@pytest.mark.parametrize(
    ("datatype", "field"),
    [
        ("FP32", "fp32_contents"), ("FP64", "fp64_contents"), ("INT8", "int_contents"),
        ("INT64", "int64_contents"), ("UINT16", "uint_contents"),
        ("UINT64", "uint64_contents"),
    ],
)  # fmt: skip
async def test_typed_contents(
    service: Service, run: Run, stub: GRPCInferenceServiceStub, datatype: str, field: str
) -> None:
    tensors, x = drawn(classifier()), np.floor(rows(2))
    await publish(service, run, 1, tensors, classifier())
    asked = pb.ModelInferRequest(model_name=run.id)
    tensor = asked.inputs.add(name="inputs", datatype=datatype, shape=x.shape)
    values = x.reshape(-1).tolist()
    getattr(tensor.contents, field).extend(
        values if "FP" in datatype else [int(value) for value in values]
    )

    answer = await stub.ModelInfer(asked)

    expected = saved(tensors, classifier()).probabilities(x)
    assert answer.raw_output_contents[0] == expected.tobytes()


def _both(asked: pb.ModelInferRequest) -> None:
    asked.inputs[0].contents.fp32_contents.append(1.0)


def _in_shared_memory(asked: pb.ModelInferRequest) -> None:
    del asked.raw_input_contents[:]
    asked.inputs[0].parameters["shared_memory_region"].string_param = "input"


def _classified(asked: pb.ModelInferRequest) -> None:
    asked.outputs.add(name="outputs").parameters["classification"].int64_param = 3


def _typed(field: str, *values: Any, datatype: str) -> Any:
    def change(asked: pb.ModelInferRequest) -> None:
        del asked.raw_input_contents[:]
        asked.inputs[0].datatype = datatype
        getattr(asked.inputs[0].contents, field).extend(values)

    return change


def _empty(field: str) -> Any:
    def change(asked: pb.ModelInferRequest) -> None:
        for _ in range(1000):
            getattr(asked, field).add()

    return change


def _output_again(asked: pb.ModelInferRequest) -> None:
    for _ in range(1000):
        asked.outputs.add(name="class")


def _replace(**fields: Any) -> Any:
    def change(asked: pb.ModelInferRequest) -> None:
        tensor = asked.inputs[0]
        for name, value in fields.items():
            if name == "shape":
                del tensor.shape[:]
                tensor.shape.extend(value)
            else:
                setattr(tensor, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_replace(shape=(1, 65)), "shape must be [-1, 64], got [1, 65]"),
        (_replace(shape=(64,)), "shape must be [-1, 64], got [64]"),
        (_replace(shape=(-1, 64)), "shape must be [-1, 64], got [-1, 64]"),
        (_replace(shape=()), "shape must be [-1, 64], got []"),
        (_replace(shape=(2, 64)), "takes 512 bytes of raw contents, got 256"),
        (_replace(datatype="BYTES"), "must be of numbers, got 'BYTES'"),
        (_replace(datatype="BOOL"), "must be of numbers, got 'BOOL'"),
        (_replace(datatype="FP-32"), "did you mean 'FP32'?"),
        (_replace(name="input"), "no input 'input', did you mean 'inputs'?"),
        (_both, "both raw_input_contents and typed contents"),
        (lambda asked: asked.raw_input_contents.append(b""), "there is 1 input, got 2"),
        (lambda asked: asked.inputs.pop(), "missing; the model takes one input: inputs FP32"),
        (lambda asked: asked.raw_input_contents.pop(), "no contents"),
        (lambda asked: asked.inputs.append(asked.inputs[0]), "given 2 times"),
        (lambda asked: asked.inputs.extend([asked.inputs[0]] * 999), "given 1000 times"),
        (_empty("inputs"), "no input ''"),
        (_empty("outputs"), "no output ''"),
        (_output_again, "outputs: 'class' is asked for twice"),
        (lambda asked: asked.outputs.add(name="output"), "did you mean 'outputs'?"),
        (_in_shared_memory, "parameter 'shared_memory_region' is not known"),
        (_classified, "parameter 'classification' is not known"),
        (_typed("fp32_contents", 1.0, datatype="FP32"), "64 values in contents.fp32_contents"),
        (_typed("fp64_contents", 1.0, datatype="FP32"), "belongs into contents.fp32_contents"),
        (_typed("fp32_contents", 1.0, datatype="BF16"), "send raw contents"),
        (_typed("int_contents", *[200] * 64, datatype="INT8"), "-128 to 127"),
    ],
)  # fmt: skip
async def test_malformed_requests_are_refused_by_field(
    service: Service, run: Run, stub: GRPCInferenceServiceStub, change: Any, words: str
) -> None:
    await publish(service, run, 1, drawn(classifier()), classifier())
    asked = request(run.id, rows(1))
    change(asked)

    text = await refused(stub.ModelInfer(asked), INVALID)

    assert words in text
    statistics = await stub.ModelStatistics(pb.ModelStatisticsRequest(name=run.id))
    assert statistics.model_stats[0].inference_stats.fail.count == 1


async def test_too_many_rows_are_refused_with_the_limit(
    service: Service, run: Run, stub: GRPCInferenceServiceStub
) -> None:
    await publish(service, run, 1, drawn(constant()), constant())
    x = np.zeros((inference_signature.MAX_ROWS + 1, 4), np.float32)

    text = await refused(
        stub.ModelInfer(request(run.id, x)), grpc.StatusCode.RESOURCE_EXHAUSTED
    )

    assert f"at most {inference_signature.MAX_ROWS:,} rows" in text


async def test_a_request_of_many_megabytes(
    service: Service, run: Run, client: triton_aio.InferenceServerClient
) -> None:
    strings = classifier(inputs=(1000,))
    await publish(service, run, 1, drawn(strings), strings)
    config = (await client.get_model_config(run.id)).config
    x = np.zeros((config.max_batch_size, 1000), np.float32)
    assert x.nbytes > 30 << 20

    result = await client.infer(run.id, [sent(x)])

    assert result.as_numpy("outputs").shape == (len(x), 3)
    with pytest.raises(InferenceServerException, match="RESOURCE_EXHAUSTED"):
        await client.infer(run.id, [sent(np.zeros((len(x) + 1, 1000), np.float32))])
