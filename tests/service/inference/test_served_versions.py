"""The version that answers a request: by number, label or newest; replacement under load."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from dbp.inference import open_inference_pb2 as pb
from dbp.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from dbp.service.inference import service as inference_service
from tests.deadline import DEADLINE
from tests.service.inference.requests import request, rows, sent
from tests.service.inference.setups import classifier, constant, drawn, publish, saved
from tests.service.setups import Run, Service, refused


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
