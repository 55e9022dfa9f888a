"""The inference service as the world's clients of the protocol see it: Triton's own, here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from dbp.inference import open_inference_pb2 as pb
from dbp.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from dbp.service.inference import service as inference_service
from dbp.service.inference import signature as inference_signature
from tests.deadline import DEADLINE
from tests.service.inference.setups import (
    NAMES,
    classifier,
    constant,
    drawn,
    metadata,
    publish,
    regression,
    saved,
)
from tests.service.setups import Run, Service, refused, serving

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state") as service:
        yield service


@pytest.fixture
async def client(service: Service) -> AsyncIterator[triton_aio.InferenceServerClient]:
    async with triton_aio.InferenceServerClient(service.address) as client:
        yield client


@pytest.fixture
def stub(service: Service) -> GRPCInferenceServiceStub:
    return GRPCInferenceServiceStub(service.channel)


@pytest.fixture
async def run(service: Service) -> Run:
    return await service.start()


def sent(array: np.ndarray, datatype: str = "", name: str = "inputs") -> triton.InferInput:
    types = {"f4": "FP32", "f8": "FP64", "f2": "FP16", "u1": "UINT8", "i8": "INT64"}
    tensor = triton.InferInput(name, array.shape, datatype or types[array.dtype.str[1:]])
    tensor.set_data_from_numpy(array)
    return tensor


def request(job: str, array: np.ndarray, *outputs: str, **more: Any) -> pb.ModelInferRequest:
    found = pb.ModelInferRequest(model_name=job, **more)
    found.inputs.add(name="inputs", datatype="FP32", shape=array.shape)
    found.raw_input_contents.append(array.astype("<f4").tobytes())
    for output in outputs:
        found.outputs.add(name=output)
    return found


def rows(count: int, shape: tuple[int, ...] = (64,), seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 16, (count, *shape)).astype(np.float32)


async def test_the_server_is_live_and_ready_and_says_what_it_is(
    client: triton_aio.InferenceServerClient,
) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    metadata = await client.get_server_metadata()
    assert metadata.name == "dbp"
    assert {"model_configuration", "statistics"} <= set(metadata.extensions)


async def test_a_model_is_ready_once_it_has_parameters(
    service: Service, run: Run, client: triton_aio.InferenceServerClient
) -> None:
    assert not await client.is_model_ready(run.id)
    assert not await client.is_model_ready("nobody")

    await publish(service, run, 1, drawn(classifier()), classifier())

    assert await client.is_model_ready(run.id)
    assert await client.is_model_ready(run.id, "1")
    assert not await client.is_model_ready(run.id, "2")


async def test_metadata_and_configuration(
    service: Service, run: Run, client: triton_aio.InferenceServerClient
) -> None:
    for step in (1, 2):
        await publish(service, run, step, drawn(classifier()), classifier())

    metadata = await client.get_model_metadata(run.id, as_json=True)
    config = (await client.get_model_config(run.id)).config

    assert metadata == {
        "name": run.id,
        "versions": ["1", "2"],
        "platform": "dbp",
        "inputs": [{"name": "inputs", "datatype": "FP32", "shape": ["-1", "64"]}],
        "outputs": [
            {"name": "outputs", "datatype": "FP32", "shape": ["-1", "3"]},
            {"name": "class", "datatype": "INT64", "shape": ["-1"]},
            {"name": "label", "datatype": "BYTES", "shape": ["-1"]},
        ],
    }
    assert config.name == run.id
    assert config.max_batch_size == inference_signature.MAX_ROWS
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [("inputs", 11, [64])]
    assert [(o.name, o.data_type) for o in config.output] == [
        ("outputs", 11), ("class", 9), ("label", 13),
    ]  # fmt: skip


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
        with triton.InferenceServerClient(service.address) as client:
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
async def test_what_does_not_fit_is_refused_by_name(
    service: Service, run: Run, stub: GRPCInferenceServiceStub, change: Any, words: str
) -> None:
    await publish(service, run, 1, drawn(classifier()), classifier())
    asked = request(run.id, rows(1))
    change(asked)

    text = await refused(stub.ModelInfer(asked), INVALID)

    assert words in text
    statistics = await stub.ModelStatistics(pb.ModelStatisticsRequest(name=run.id))
    assert statistics.model_stats[0].inference_stats.fail.count == 1


@pytest.mark.parametrize(
    ("name", "version", "code", "words"),
    [
        ("diggits-{id}", "", grpc.StatusCode.NOT_FOUND, "did you mean '{job}'?"),
        ("nobody@best", "", grpc.StatusCode.NOT_FOUND, "no such job"),
        ("{job}@", "", INVALID, "expected JOB@LABEL"),
        ("{job}@bets", "", grpc.StatusCode.NOT_FOUND, "no label 'bets'"),
        ("{job}", "7", grpc.StatusCode.NOT_FOUND, "there is no version 7; the newest is 1"),
        ("{job}", "newest", INVALID, "must be a parameter version's number"),
        ("{job}", "0", INVALID, "counted from 1"),
        ("{job}@best", "1", INVALID, "leave one out"),
    ],
)
async def test_unknown_models_and_versions(
    service: Service,
    run: Run,
    stub: GRPCInferenceServiceStub,
    name: str,
    version: str,
    code: grpc.StatusCode,
    words: str,
) -> None:  # fmt: skip
    await publish(service, run, 1, drawn(classifier()), classifier())
    parts = {"job": run.id, "id": run.id.rpartition("-")[2]}
    asked = request(name.format(**parts), rows(1), model_version=version)

    text = await refused(stub.ModelInfer(asked), code)

    assert words.format(**parts) in text


async def test_a_job_without_parameters_or_with_others_is_no_model(
    service: Service, run: Run, stub: GRPCInferenceServiceStub
) -> None:
    asked = request(run.id, rows(1))
    early = await refused(stub.ModelInfer(asked), grpc.StatusCode.FAILED_PRECONDITION)

    await publish(service, run, 1, drawn(classifier()), {})
    strange = await refused(stub.ModelInfer(asked), grpc.StatusCode.FAILED_PRECONDITION)

    assert "no parameters are published yet" in early
    assert "has no dbp.model" in strange


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


async def test_several_versions_and_the_newest(
    service: Service, run: Run, client: triton_aio.InferenceServerClient
) -> None:
    every = [drawn(classifier(), seed=seed) for seed in range(3)]
    for step, tensors in enumerate(every, 1):
        await publish(service, run, step, tensors, classifier())
    x = rows(2)

    for number, tensors in enumerate(every, 1):
        result = await client.infer(run.id, [sent(x)], model_version=str(number))
        assert result.get_response().model_version == str(number)
        expected = saved(tensors, classifier()).probabilities(x)
        np.testing.assert_array_equal(result.as_numpy("outputs"), expected)
    assert (await client.infer(run.id, [sent(x)])).get_response().model_version == "3"


async def test_a_version_that_is_no_longer_kept_answers_while_it_is_loaded(
    service: Service, run: Run, stub: GRPCInferenceServiceStub
) -> None:
    for step in range(1, 3):
        await publish(service, run, step, drawn(classifier(), seed=step), classifier())
    first = request(run.id, rows(1), model_version="1")
    second = request(run.id, rows(1), model_version="2")
    before = await stub.ModelInfer(first)

    for step in range(3, 10):
        await publish(service, run, step, drawn(classifier(), seed=step), classifier())
    after = await stub.ModelInfer(first)
    text = await refused(stub.ModelInfer(second), grpc.StatusCode.OUT_OF_RANGE)
    metadata = await stub.ModelMetadata(pb.ModelMetadataRequest(name=run.id))

    assert after == before
    assert "version 2 is no longer kept; kept: 6, 7, 8, 9" in text
    assert list(metadata.versions) == ["6", "7", "8", "9"]


async def test_labels_name_models(
    service: Service, run: Run, client: triton_aio.InferenceServerClient
) -> None:
    for step in (1, 2):
        await publish(service, run, step, drawn(classifier(), seed=step), classifier())
    other = await service.start(name="other")
    await publish(service, other, 1, drawn(classifier()), classifier())
    await move(service, run.id, "stable", 1)

    by_job = await client.infer(f"{run.id}@stable", [sent(rows(1))])
    alone = await client.infer("stable", [sent(rows(1))])
    await move(service, other.id, "stable", 1)

    assert by_job.get_response().model_version == "1"
    assert by_job.get_response().model_name == f"{run.id}@stable"
    assert alone.get_response().parameters["job"].string_param == run.id
    with pytest.raises(InferenceServerException, match="several jobs have the label"):
        await client.infer("stable", [sent(rows(1))])


async def move(service: Service, job_id: str, label: str, version: int) -> None:
    from dbp.v1 import parameter_service_pb2 as parameters_pb

    asked = parameters_pb.MoveLabelRequest(job=f"jobs/{job_id}", label=label, version=version)
    await service.parameters.MoveLabel(asked)


async def test_statistics_and_index(
    service: Service, run: Run, client: triton_aio.InferenceServerClient
) -> None:
    await publish(service, run, 1, drawn(classifier()), classifier())
    waiting = await service.create(name="later")
    for count in (3, 4):
        await client.infer(run.id, [sent(rows(count))])

    (figures,) = (await client.get_inference_statistics(run.id)).model_stats
    everything = (await client.get_inference_statistics()).model_stats
    index = (await client.get_model_repository_index()).models

    assert (figures.name, figures.version) == (run.id, "1")
    assert (figures.inference_count, figures.execution_count) == (7, 2)
    assert figures.last_inference > 1_600_000_000_000
    times = figures.inference_stats
    assert times.success.count == 2
    parts = (times.queue, times.compute_input, times.compute_infer, times.compute_output)
    assert 0 < sum(part.ns for part in parts) <= times.success.ns * 1.001
    assert list(everything) == [figures]
    states = {model.name: (model.version, model.state) for model in index}
    assert states[run.id] == ("1", "READY")
    assert states[waiting.name.removeprefix("jobs/")] == ("", "UNAVAILABLE")


async def test_a_damaged_version_is_never_served(
    service: Service, run: Run, stub: GRPCInferenceServiceStub, tmp_path: Path
) -> None:
    await publish(service, run, 1, drawn(classifier()), classifier())
    (path,) = (tmp_path / "state").glob(f"**/{run.id}/**/1.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    await refused(stub.ModelInfer(request(run.id, rows(1))), grpc.StatusCode.DATA_LOSS)

    ready = await stub.ModelReady(pb.ModelReadyRequest(name=run.id))
    assert not ready.ready


async def test_new_versions_take_over_under_load(
    service: Service,
    run: Run,
    client: triton_aio.InferenceServerClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every output of version n is n; big requests go through threads, small ones do not."""
    last = 30
    monkeypatch.setattr(inference_service, "INLINE_SECONDS", 1e-4)

    def encoded(number: int) -> Mapping[str, np.ndarray]:
        return {
            "0.weight": np.zeros((5, 4), np.float32),
            "0.bias": np.full(5, number, np.float32),
        }

    await publish(service, run, 1, encoded(1), constant())
    seen: list[list[int]] = []

    async def infer(count: int) -> None:
        versions: list[int] = []
        seen.append(versions)
        x = rows(count, (4,))
        while not versions or versions[-1] < last:
            result = await client.infer(run.id, [sent(x)])
            number = int(result.get_response().model_version)
            outputs = result.as_numpy("outputs")
            assert outputs.shape == (count, 5)
            assert (outputs == number).all()
            assert result.get_response().parameters["step"].int64_param == number
            versions.append(number)

    async def publisher() -> None:
        for number in range(2, last + 1):
            await asyncio.sleep(0.02)
            await publish(service, run, number, encoded(number), constant())

    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*[infer(n) for n in (1, 1, 3, 200, 20_000, 20_000)], publisher())

    assert max(len(set(versions)) for versions in seen) > 5
    for versions in seen:
        assert versions == sorted(versions)
