"""Answers that grow with what a job has: cut, left out or refused below gRPC's 4 MiB."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import grpc
import numpy as np
import pytest

from dbp.inference import open_inference_pb2 as inference_pb
from dbp.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from dbp.job.snapshot import decode_header
from dbp.jobs import live_parameters
from dbp.jobs.paging import MAX_PAGE_SIZE
from dbp.rpc.channel import MAX_ANSWER_BYTES
from dbp.service.inference import service as inference_service
from dbp.service.parameters import streams
from dbp.v1 import job_pb2
from dbp.v1 import parameter_service_pb2 as pb
from dbp.versions.tables import MOVES_KEPT
from tests.service.setups import Run, Service, read_all, refused, selector, tensors


@pytest.fixture
async def run(service: Service) -> Run:
    return await service.start()


async def test_a_manifest_too_large_for_a_message_stands_in_the_file_alone(
    service: Service, run: Run
) -> None:
    await run.publish(1, {f"{n:0120d}.bias": np.zeros(1, np.float32) for n in range(40_000)})

    request = pb.StreamParametersRequest(selector=selector(run.id))
    first, *chunks, last = await read_all(service.parameters.StreamParameters(request))

    content = b"".join(message.chunk.data for message in chunks)
    assert not first.header.HasField("manifest")
    assert first.header.size_bytes == len(content)
    assert last.HasField("trailer")
    length = int.from_bytes(content[:8], "little")
    assert len(decode_header(content[8 : 8 + length], "the file").tensors) == 40_000


async def test_a_manifest_that_fits_is_in_the_header(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run.publish(1, tensors())
    request = pb.StreamParametersRequest(selector=selector(run.id))

    fits = (await service.parameters.StreamParameters(request).read()).header
    monkeypatch.setattr(streams, "MAX_ANSWER_BYTES", fits.ByteSize())
    too_long = (await service.parameters.StreamParameters(request).read()).header

    assert [tensor.name for tensor in fits.manifest.tensors] == ["0.weight", "0.bias"]
    assert not too_long.HasField("manifest")


async def test_a_job_has_a_limited_number_of_labels(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.jobs.live_parameters.MAX_LABELS", 3)
    await run.publish(1, tensors())

    def move(label: str, version: int) -> Awaitable[Any]:
        request = pb.MoveLabelRequest(job=f"jobs/{run.id}", label=label, version=version)
        call: Awaitable[Any] = service.parameters.MoveLabel(request)
        return call

    for label in ("a", "b", "c"):
        await move(label, 1)
    text = await refused(move("d", 1), grpc.StatusCode.RESOURCE_EXHAUSTED)
    await move("c", 1)  # a label that is there may move
    await move("a", 0)
    await refused(move("d", 1), grpc.StatusCode.RESOURCE_EXHAUSTED)  # an undo may restore "a"
    await move("a", 0)
    await move("d", 1)

    assert "3 labels, at most 3 are allowed; remove one first" in text


async def test_more_jobs_than_an_index_holds_are_listed_in_pages_elsewhere(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = GRPCInferenceServiceStub(service.channel)
    await stub.RepositoryIndex(inference_pb.RepositoryIndexRequest())
    monkeypatch.setattr(inference_service, "MAX_ANSWER_BYTES", 20)

    text = await refused(
        stub.RepositoryIndex(inference_pb.RepositoryIndexRequest()),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )

    assert "use dbp.v1.JobService/ListJobs" in text


def test_the_largest_page_of_versions_and_all_labels_fit_into_a_message() -> None:
    version = job_pb2.ParameterVersion(
        version=2**62, step=2**62, attempt=2**30, digest="f" * 64, size_bytes=2**62, final=True,
        previous_digest="f" * 64, spec_digest="f" * 64, rollbacks=2**30,
    )  # fmt: skip
    version.publish_time.FromNanoseconds(2**62)
    names = [f"{n:063d}" for n in range(live_parameters.MAX_LABELS)]
    entry = pb.VersionEntry(version=version, kept=True, pinned=True)
    page = pb.ListVersionsResponse(versions=[entry] * MAX_PAGE_SIZE, next_page_token="9" * 19)
    page.versions[0].labels.extend(names)
    page.versions[0].left_by.extend(names)
    label = pb.Label(name="x" * 63, version=2**62, previous_version=2**62)
    label.move_time.FromNanoseconds(2**62)
    labels = pb.ListLabelsResponse(
        labels=[label] * live_parameters.MAX_LABELS, history=[label] * MOVES_KEPT
    )

    assert page.ByteSize() < MAX_ANSWER_BYTES
    assert labels.ByteSize() < MAX_ANSWER_BYTES
