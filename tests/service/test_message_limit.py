"""Answers with jobs whose specs are large stay below gRPC's limit of 4 MiB."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from dbp.client.async_client import AsyncClient
from dbp.jobs.checks import Checked
from dbp.rpc import spec_convert
from dbp.v1 import job_pb2
from dbp.v1 import job_service_pb2 as pb
from tests.service.setups import Service, document, refused, serving


def large_model(note: int) -> dict[str, Any]:
    return {
        "layers": [{"kind": "dense", "units": 10, "note": "x" * note}],
        "loss": {"kind": "mean_squared_error"},
    }


def accept(spec: Mapping[str, Any], _: int) -> Checked:
    return Checked(spec, "0" * 64)


def accept_and_enlarge(spec: Mapping[str, Any], _: int) -> Checked:
    """Resolve to a spec that no message can hold, as an older version of dbp did."""
    return Checked({**spec, "model": large_model(5 << 20)}, "0" * 64)


async def all_pages(service: Service, page_size: int) -> list[pb.ListJobsResponse]:
    pages: list[pb.ListJobsResponse] = []
    while not pages or pages[-1].next_page_token:
        token = pages[-1].next_page_token if pages else ""
        request = pb.ListJobsRequest(page_size=page_size, page_token=token)
        pages.append(await service.jobs.ListJobs(request))
    return pages


async def test_a_page_of_jobs_ends_before_a_message_would_be_too_large(tmp_path: Path) -> None:
    async with serving(tmp_path / "state", check=accept) as service:
        names = [(await service.create(model=large_model(700_000))).name for _ in range(12)]

        pages = await all_pages(service, page_size=100)

        assert [len(page.jobs) for page in pages] == [5, 5, 2]
        assert [job.name for page in pages for job in page.jobs] == names[::-1]
        assert all(page.ByteSize() < 4 << 20 for page in pages)
        assert not any(job.spec_omitted for page in pages for job in page.jobs)


async def test_a_page_is_cut_by_its_size_as_well(tmp_path: Path) -> None:
    async with serving(tmp_path / "state", check=accept) as service:
        names = [(await service.create(model=large_model(700_000))).name for _ in range(7)]

        pages = await all_pages(service, page_size=3)

        assert [len(page.jobs) for page in pages] == [3, 3, 1]
        assert [job.name for page in pages for job in page.jobs] == names[::-1]


async def test_a_job_larger_than_a_message_is_shown_without_its_spec(tmp_path: Path) -> None:
    async with (
        serving(tmp_path / "state", check=accept_and_enlarge) as service,
        AsyncClient(service.address) as client,
    ):
        created = await service.create()
        got = await service.get(created.name.removeprefix("jobs/"))
        listed = (await service.jobs.ListJobs(pb.ListJobsRequest())).jobs
        cancelled = await service.jobs.CancelJob(pb.CancelJobRequest(name=created.name))
        watch = service.watch(created.name.removeprefix("jobs/"))
        first = (await watch.read()).snapshot
        by_client = [job async for job in client.jobs()]

    for shown in (created, got, *listed, cancelled.job, first):
        assert shown.name == created.name
        assert shown.spec_omitted
        assert shown.spec == job_pb2.JobSpec(name="digits")
    assert [job.spec for job in by_client] == [{"name": "digits"}]


async def test_a_watch_of_all_jobs_holds_large_ones(tmp_path: Path) -> None:
    async with serving(tmp_path / "state", check=accept_and_enlarge, slots=1) as service:
        for _ in range(3):
            await service.create()
        watch = service.watch()
        snapshots = [(await watch.read()).snapshot for _ in range(3)]
        watch.cancel()

    assert all(job.spec_omitted for job in snapshots)


async def test_a_spec_that_defaults_make_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spec_convert, "MAX_SPEC_BYTES", 400)
    async with serving(tmp_path / "state") as service:
        request = pb.CreateJobRequest(spec=spec_convert.spec_to_proto(document()))
        assert request.spec.ByteSize() < 400

        text = await refused(
            service.jobs.CreateJob(request), grpc.StatusCode.RESOURCE_EXHAUSTED
        )

        assert "with every default filled in, at most 400 allowed" in text
        assert not (await service.jobs.ListJobs(pb.ListJobsRequest())).jobs


async def test_a_small_job_keeps_its_spec(tmp_path: Path) -> None:
    async with serving(tmp_path / "state") as service:
        job = await service.create()

    assert not job.spec_omitted
    assert job.spec.train.batch_size == 128
