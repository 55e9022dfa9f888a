"""Outputs of models over the inference protocol: their values, types and selection."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from tests.service.inference.requests import rows, sent
from tests.service.inference.setups import (
    NAMES,
    classifier,
    drawn,
    metadata,
    publish,
    regression,
    saved,
)
from tests.service.setups import Run, Service


@pytest.mark.parametrize("count", [0, 1, 7, 300, 5_000])
async def test_outputs_are_the_models_own_to_the_bit(
    service: Service, run: Run, client: triton_aio.InferenceServerClient, count: int
) -> None:
    tensors, x = drawn(classifier()), rows(count)
    version = await publish(service, run, 9, tensors, classifier())
    model = saved(tensors, classifier())

    result = await client.infer(run.id, [sent(x)], request_id="mine")

    probabilities = model.probabilities(x)
    np.testing.assert_array_equal(result.as_numpy("outputs"), probabilities)
    np.testing.assert_array_equal(result.as_numpy("class"), probabilities.argmax(axis=1))
    labels = [NAMES[i].encode() for i in probabilities.argmax(axis=1)]
    assert result.as_numpy("label").tolist() == labels
    assert result.as_numpy("scores") is None
    response = result.get_response()
    assert (response.model_name, response.model_version) == (run.id, "1")
    assert response.id == "mine"
    parameters = response.parameters
    assert parameters["job"].string_param == run.id
    assert parameters["step"].int64_param == 9
    assert parameters["version"].int64_param == 1
    assert parameters["digest"].string_param == version.digest


async def test_more_outputs_than_names_of_classes(
    service: Service, run: Run, client: triton_aio.InferenceServerClient
) -> None:
    strings = metadata({"kind": "dense", "units": 4}, inputs=(4,), classes=("cat", "dog"))
    tensors = {"0.weight": np.eye(4, dtype=np.float32), "0.bias": np.zeros(4, np.float32)}
    await publish(service, run, 1, tensors, strings)

    result = await client.infer(run.id, [sent(np.eye(4, dtype=np.float32))])

    assert result.as_numpy("class").tolist() == [0, 1, 2, 3]
    assert result.as_numpy("label").tolist() == [b"cat", b"dog", b"2", b"3"]


async def test_triton_s_plain_client_too(service: Service, run: Run) -> None:
    tensors, x = drawn(classifier()), rows(3)
    await publish(service, run, 1, tensors, classifier())

    def infer() -> np.ndarray:
        with triton.InferenceServerClient(service.socket) as client:
            result = client.infer(run.id, [sent(x)]).as_numpy("outputs")
            assert isinstance(result, np.ndarray)
            return result

    found = await asyncio.to_thread(infer)

    np.testing.assert_array_equal(found, saved(tensors, classifier()).probabilities(x))


async def test_regression_in_float64_keeps_its_shape(
    service: Service, run: Run, client: triton_aio.InferenceServerClient
) -> None:
    tensors = drawn(regression(), "float64")
    await publish(service, run, 1, tensors, regression())
    x = rows(5, (2, 3)).astype(np.float64)

    metadata = await client.get_model_metadata(run.id)
    result = await client.infer(run.id, [sent(x)])

    assert [output.name for output in metadata.outputs] == ["outputs"]
    assert metadata.inputs[0].datatype == "FP64"
    assert list(metadata.inputs[0].shape) == [-1, 2, 3]
    expected = saved(tensors, regression()).predict(x)
    assert result.as_numpy("outputs").dtype == np.float64
    np.testing.assert_array_equal(result.as_numpy("outputs"), expected)


MODELS = {
    "images": metadata(
        {"kind": "conv2d", "filters": 4}, {"kind": "batch_norm"},
        {"kind": "relu"}, {"kind": "max_pool2d"}, {"kind": "flatten"},
        {"kind": "dense", "units": 5}, inputs=(1, 8, 8),
    ),
    "ids": metadata(
        {"kind": "embedding", "count": 16, "dimension": 3}, {"kind": "flatten"},
        {"kind": "dense", "units": 2}, inputs=(4,),
    ),
    "one output": metadata(
        {"kind": "dense", "units": 1}, inputs=(4,), loss="binary_cross_entropy",
        classes=("no", "yes"),
    ),
    "labels": metadata(
        {"kind": "dense", "units": 3}, inputs=(4,), loss="sigmoid_cross_entropy"
    ),
    "standard scaling": metadata(
        {"kind": "dense", "units": 3}, inputs=(2,),
        scaling={"kind": "standard", "mean": [5.0, 7.0], "scale": [2.0, 3.0]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
async def test_models_of_every_kind(
    service: Service, run: Run, client: triton_aio.InferenceServerClient, name: str
) -> None:
    strings = MODELS[name]
    tensors = drawn(strings)
    tensors = {n: abs(array) if "running_var" in n else array for n, array in tensors.items()}
    model = saved(tensors, strings)
    x = np.floor(rows(300, model.model.input_shape))
    await publish(service, run, 1, tensors, strings)

    result = await client.infer(run.id, [sent(x)])

    expected = model.probabilities(x)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(result.as_numpy("outputs"), expected)
    if model.model.loss.target_kind() == "class":
        classes = model.model.loss.classes(model.predict(x))
        np.testing.assert_array_equal(result.as_numpy("class"), classes)
        if model.class_names:
            labels = [model.class_names[number].encode() for number in classes]
            assert result.as_numpy("label").tolist() == labels
    else:
        assert result.as_numpy("class") is None


async def test_the_outputs_that_are_asked_for(
    service: Service, run: Run, client: triton_aio.InferenceServerClient
) -> None:
    tensors, x = drawn(classifier()), rows(4)
    await publish(service, run, 1, tensors, classifier())
    wanted = [triton.InferRequestedOutput(name) for name in ("scores", "label")]

    result = await client.infer(run.id, [sent(x)], outputs=wanted)

    scores = saved(tensors, classifier()).predict(x)
    assert [output.name for output in result.get_response().outputs] == ["scores", "label"]
    np.testing.assert_array_equal(result.as_numpy("scores"), scores)
    assert result.as_numpy("label")[0] == NAMES[scores[0].argmax()].encode()
