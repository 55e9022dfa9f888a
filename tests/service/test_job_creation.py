"""CreateJob: defaults, violations, limits and repeated requests."""

from __future__ import annotations

import asyncio
import re
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from dbp.rpc.spec_convert import spec_to_proto
from dbp.v1 import job_pb2
from dbp.v1 import job_service_pb2 as pb
from tests.credentials import open_channel
from tests.service.job_requests import Code
from tests.service.setups import Service, details, document, refused, serving


def create(**changes: Any) -> pb.CreateJobRequest:
    return pb.CreateJobRequest(spec=spec_to_proto(document(**changes)))


async def test_a_job_is_queued_with_every_default_filled_in(service: Service) -> None:
    job = (await service.jobs.CreateJob(create())).job

    assert re.fullmatch("jobs/digits-[a-z0-9]{6}", job.name)
    assert job.state in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_STARTING)
    assert job.workers == 1, "the default"
    assert job.create_time.seconds > 1_700_000_000
    assert re.fullmatch("[0-9a-f]{64}", job.spec_digest)
    assert job.spec.train.batch_size == 128
    again = (await service.jobs.GetJob(pb.GetJobRequest(name=job.name))).job
    assert again.spec == job.spec


async def test_a_bad_spec_is_refused_with_every_violation(service: Service) -> None:
    request = create(
        train={"epochs": 0},
        optimizer={"kind": "sdg"},
        model={"layers": [{"kind": "dense", "units": 0}], "loss": "mean_squared_error"},
    )

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.jobs.CreateJob(request)

    assert caught.value.code() is Code.INVALID_ARGUMENT
    info = details(caught.value, error_details_pb2.ErrorInfo())
    assert (info.domain, info.reason) == ("dbp", "INVALID_SPEC")
    bad = details(caught.value, error_details_pb2.BadRequest())
    told = {violation.field: violation.description for violation in bad.field_violations}
    assert {"train.epochs", "optimizer.kind", "model.layers[0].units"} <= set(told)
    assert "did you mean 'sgd'" in told["optimizer.kind"]


async def test_a_thousand_violations_reach_a_client_with_default_limits(
    service: Service,
) -> None:
    layers = [{"kind": "dense", "units": 0}] * 200
    request = create(model={"layers": layers, "loss": "softmax_cross_entropy"})

    async with open_channel(service.address) as channel:
        bare: Any = channel.unary_unary(
            "/dbp.v1.JobService/CreateJob",
            request_serializer=pb.CreateJobRequest.SerializeToString,
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await bare(request)

    assert caught.value.code() is Code.INVALID_ARGUMENT
    bad = details(caught.value, error_details_pb2.BadRequest())
    assert re.search(r"and 1\d\d more violations", bad.field_violations[-1].description)


@pytest.mark.parametrize("place", ["request", "spec", "layer"])
async def test_a_setting_of_a_newer_client_is_refused(service: Service, place: str) -> None:
    request = create()
    message = {"request": request, "spec": request.spec, "layer": request.spec.model.layers[0]}
    message[place].MergeFromString(b"\xc0\x3e\x01")

    text = await refused(service.jobs.CreateJob(request), Code.INVALID_ARGUMENT)

    assert "field number 1000 is not known" in text
    assert not (await service.jobs.ListJobs(pb.ListJobsRequest())).jobs


async def test_files_outside_the_allowed_folders_are_refused(
    service: Service, tmp_path: Path
) -> None:
    reader = {"kind": "csv", "path": "/etc/passwd", "target": 0}

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.jobs.CreateJob(create(data={"train": reader}))

    assert caught.value.code() is Code.INVALID_ARGUMENT
    bad = details(caught.value, error_details_pb2.BadRequest())
    assert [violation.field for violation in bad.field_violations] == ["data.train.path"]
    told = bad.field_violations[0].description
    assert f"inside a folder that the service may read ({tmp_path})" in told
    assert "dbp serve --data-root FOLDER" in told


async def test_data_inside_them_is_inspected(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(b"no zip file")
    reader = {"kind": "npz", "path": str(path)}

    text = await refused(
        service.jobs.CreateJob(create(data={"train": reader})), Code.INVALID_ARGUMENT
    )

    assert "broken.npz" in text


async def test_validating_only_stores_nothing(service: Service) -> None:
    request = create()
    request.validate_only = True

    job = (await service.jobs.CreateJob(request)).job

    assert job.spec.train.batch_size == 128
    assert job.name == ""
    assert not (await service.jobs.ListJobs(pb.ListJobsRequest())).jobs
    request.spec.train.epochs = 0
    await refused(service.jobs.CreateJob(request), Code.INVALID_ARGUMENT)


async def test_a_repeated_request_is_answered_with_the_same_job(service: Service) -> None:
    request = create()
    request.request_id = str(uuid.uuid4())

    first, second = await asyncio.gather(
        service.jobs.CreateJob(request), service.jobs.CreateJob(request)
    )
    assert first.job.name == second.job.name

    request.spec.seed = 8
    text = await refused(service.jobs.CreateJob(request), Code.ALREADY_EXISTS)
    assert first.job.name.removeprefix("jobs/") in text
    request.request_id = "x" * 129
    text = await refused(service.jobs.CreateJob(request), Code.INVALID_ARGUMENT)
    assert "request_id: at most 128" in text
    assert len((await service.jobs.ListJobs(pb.ListJobsRequest())).jobs) == 1


async def test_an_activation_that_the_loss_applies_itself_is_refused(service: Service) -> None:
    layers = [{"kind": "dense", "units": 10}, {"kind": "softmax"}]
    model = {"layers": layers, "loss": {"kind": "softmax_cross_entropy"}}

    text = await refused(service.jobs.CreateJob(create(model=model)), Code.INVALID_ARGUMENT)

    assert "model.layers[1]" in text
    assert "remove model.layers[1]" in text
    assert not (await service.jobs.ListJobs(pb.ListJobsRequest())).jobs


async def test_more_workers_than_slots_can_never_run(service: Service) -> None:
    request = create()
    request.workers = 5
    text = await refused(service.jobs.CreateJob(request), Code.FAILED_PRECONDITION)
    assert "5 asked for, this service has 4 slots" in text

    for workers in (0, -1):
        request.workers = workers
        text = await refused(service.jobs.CreateJob(request), Code.INVALID_ARGUMENT)
        assert f"workers: must be >= 1, got {workers}" in text


async def test_a_full_queue_refuses_for_now(tmp_path: Path) -> None:
    async with serving(tmp_path / "state", slots=1, max_queued=1) as service:
        await service.start()
        waiting = await service.create()

        await refused(service.jobs.CreateJob(create()), Code.RESOURCE_EXHAUSTED)

        assert waiting.state == job_pb2.JOB_STATE_QUEUED
        assert "needs 1 slot" in waiting.waiting_reason


async def test_a_message_beyond_the_limit_is_refused(service: Service) -> None:
    request = create(optimizer={"kind": "sgd", "learning_rate": "x" * (5 << 20)})

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.jobs.CreateJob(request)

    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
