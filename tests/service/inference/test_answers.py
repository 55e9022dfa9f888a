"""Rows that are not finite are refused with their number: they have no class."""

from __future__ import annotations

import json
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest

from dbp.inference import open_inference_pb2 as pb
from dbp.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tests.service.inference.setups import classifier, drawn, metadata, publish
from tests.service.setups import Run, Service, refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT
TYPES = {"FP16": "<f2", "BF16": ml_dtypes.bfloat16, "FP32": "<f4", "FP64": "<f8"}


@pytest.fixture
def stub(service: Service) -> GRPCInferenceServiceStub:
    return GRPCInferenceServiceStub(service.channel)


@pytest.fixture
async def run(service: Service) -> Run:
    return await service.start()


def request(job: str, x: np.ndarray, kind: str, *outputs: str) -> pb.ModelInferRequest:
    found = pb.ModelInferRequest(
        model_name=job, raw_input_contents=[x.astype(TYPES[kind]).tobytes()]
    )
    found.inputs.add(name="inputs", datatype=kind, shape=x.shape)
    for output in outputs:
        found.outputs.add(name=output)
    return found


@pytest.mark.parametrize("outputs", [(), ("class",), ("label",), ("scores",)], ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", TYPES)
async def test_a_row_with_an_input_that_is_not_finite_is_refused(
    service: Service,
    run: Run,
    stub: GRPCInferenceServiceStub,
    kind: str,
    value: float,
    outputs: tuple[str, ...],
) -> None:
    await publish(service, run, 1, drawn(classifier()), classifier())
    x = np.ones((5, 64))
    x[3, 17] = value

    text = await refused(stub.ModelInfer(request(run.id, x, kind, *outputs)), INVALID)

    assert f"inputs: row 3 (counted from 0), element [17]: {value}, expected" in text


async def test_typed_contents_are_checked_too(
    service: Service, run: Run, stub: GRPCInferenceServiceStub
) -> None:
    await publish(service, run, 1, drawn(classifier()), classifier())
    asked = pb.ModelInferRequest(model_name=run.id)
    tensor = asked.inputs.add(name="inputs", datatype="FP32", shape=(2, 64))
    tensor.contents.fp32_contents.extend([0.0] * 127 + [float("nan")])

    text = await refused(stub.ModelInfer(asked), INVALID)

    assert "row 1 (counted from 0), element [63]: nan" in text


async def test_an_input_of_a_model_with_names_is_refused_by_its_name(
    service: Service, run: Run, stub: GRPCInferenceServiceStub
) -> None:
    names = json.dumps([f"pixel {i}" for i in range(64)])
    strings = classifier() | {"dbp.input_names": names}
    await publish(service, run, 1, drawn(strings), strings)
    x = np.ones((2, 64))
    x[1, 9] = np.nan

    text = await refused(stub.ModelInfer(request(run.id, x, "FP32")), INVALID)

    assert "row 1 (counted from 0), input 'pixel 9': nan" in text


@pytest.mark.parametrize(
    ("scaling", "kind", "value", "text"),
    [
        ({"kind": "none"}, "FP64", 1e300, "1e+300 is too large for the model's float32"),
        (
            {"kind": "unit", "scale": 1e-9}, "FP32", 1e30,
            "1e+30 is too large for the model's float32 after scaling",
        ),
    ],
)  # fmt: skip
async def test_a_row_that_is_too_large_for_the_model_is_refused(
    service: Service,
    run: Run,
    stub: GRPCInferenceServiceStub,
    scaling: dict[str, Any],
    kind: str,
    value: float,
    text: str,
) -> None:
    strings = classifier(scaling=scaling)
    await publish(service, run, 1, drawn(strings), strings)
    x = np.ones((4, 64))
    x[2, 5] = value

    assert text in await refused(stub.ModelInfer(request(run.id, x, kind)), INVALID)


@pytest.mark.parametrize("outputs", [(), ("class",)], ids=str)
async def test_a_row_whose_outputs_overflow_is_refused(
    service: Service, run: Run, stub: GRPCInferenceServiceStub, outputs: tuple[str, ...]
) -> None:
    strings = classifier(scaling={"kind": "none"})
    await publish(service, run, 1, drawn(strings), strings)
    x = np.ones((4, 64))
    x[1] = 3e38

    text = await refused(stub.ModelInfer(request(run.id, x, "FP32", *outputs)), INVALID)

    assert "inputs: row 1 (counted from 0): the model's outputs are not finite" in text


async def test_overflow_after_the_last_layer_is_refused(
    service: Service, run: Run, stub: GRPCInferenceServiceStub
) -> None:
    strings = metadata({"kind": "dense", "units": 1}, inputs=(1,), loss="poisson")
    tensors = {"0.weight": np.ones((1, 1), np.float32), "0.bias": np.zeros(1, np.float32)}
    await publish(service, run, 1, tensors, strings)
    x = np.array([[1.0], [1000.0]])

    assert "row 1 " in await refused(stub.ModelInfer(request(run.id, x, "FP32")), INVALID)


async def test_a_model_that_is_not_finite_for_zeros_is_ready(
    service: Service, run: Run, stub: GRPCInferenceServiceStub
) -> None:
    tensors = {name: np.full_like(array, np.nan) for name, array in drawn(classifier()).items()}
    await publish(service, run, 1, tensors, classifier())

    assert (await stub.ModelReady(pb.ModelReadyRequest(name=run.id))).ready


async def test_parameters_that_are_not_finite_give_no_class(
    service: Service, run: Run, stub: GRPCInferenceServiceStub
) -> None:
    tensors = {name: np.full_like(array, np.nan) for name, array in drawn(classifier()).items()}
    await publish(service, run, 1, tensors, classifier())

    text = await refused(stub.ModelInfer(request(run.id, np.ones((1, 64)), "FP32")), INVALID)

    assert "row 0 (counted from 0)" in text
    assert "parameters are not finite" in text


async def test_an_id_that_the_embedding_does_not_have_is_refused(
    service: Service, run: Run, stub: GRPCInferenceServiceStub
) -> None:
    strings = metadata(
        {"kind": "embedding", "count": 10, "dimension": 4},
        {"kind": "flatten"},
        {"kind": "dense", "units": 3},
        inputs=(2,),
    )
    await publish(service, run, 1, drawn(strings), strings)
    x = np.array([[1.0, 9.0], [3.0, 10.0]])

    text = await refused(stub.ModelInfer(request(run.id, x, "FP32", "class")), INVALID)

    assert "row 1 (counted from 0)" in text
    assert "an input is not a valid id for the embedding" in text
    await stub.ModelInfer(request(run.id, x[:1], "FP32", "class"))


async def test_a_large_request_is_checked_too(
    service: Service, run: Run, stub: GRPCInferenceServiceStub
) -> None:
    names = json.dumps([f"gene {i}" for i in range(1000)])
    strings = classifier(inputs=(1000,)) | {"dbp.input_names": names}
    await publish(service, run, 1, drawn(strings), strings)
    x = np.zeros((3000, 1000))
    x[2999, 999] = np.nan

    text = await refused(stub.ModelInfer(request(run.id, x, "FP32")), INVALID)

    assert "row 2999 (counted from 0), input 'gene 999'" in text
