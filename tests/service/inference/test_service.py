"""A service with one run, and clients of its inference protocol."""

from __future__ import annotations

import grpc
import pytest
import tritonclient.grpc.aio as triton_aio

from dbp.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from dbp.service.inference import signature as inference_signature
from tests.service.inference.requests import INVALID, request, rows, sent
from tests.service.inference.setups import classifier, drawn, publish
from tests.service.setups import Run, Service, refused


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
