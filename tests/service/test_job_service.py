"""JobService over sockets: every method, and every error with its code and details."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.v1 import job_pb2
from dbp.v1 import job_service_pb2 as pb
from tests.service.job_requests import Code
from tests.service.setups import Service, refused, serving, until


async def test_a_job_that_is_not_there_is_not_found(service: Service) -> None:
    text = await refused(
        service.jobs.GetJob(pb.GetJobRequest(name="jobs/digits-x")), Code.NOT_FOUND
    )
    assert "digits-x" in text
    for name in ("", "digits-x", "jobs/../../etc"):
        await refused(service.jobs.GetJob(pb.GetJobRequest(name=name)), Code.INVALID_ARGUMENT)


async def test_pages_hold_every_job_once_newest_first(service: Service) -> None:
    names = [(await service.create()).name for _ in range(5)]
    found, token, pages = [], "", 0

    while pages == 0 or token:
        page = await service.jobs.ListJobs(pb.ListJobsRequest(page_size=2, page_token=token))
        found += [job.name for job in page.jobs]
        token, pages = page.next_page_token, pages + 1

    assert found == names[::-1]
    assert pages == 3


async def test_a_list_is_narrowed_by_states(tmp_path: Path) -> None:
    async with serving(tmp_path / "state", slots=1) as service:
        run = await service.start()
        queued = await service.create()

        async def names(*states: job_pb2.JobState) -> list[str]:
            answer = await service.jobs.ListJobs(pb.ListJobsRequest(states=states))
            return [job.name for job in answer.jobs]

        running = f"jobs/{run.id}"
        assert await names(job_pb2.JOB_STATE_RUNNING) == [running]
        assert await names(job_pb2.JOB_STATE_QUEUED) == [queued.name]
        assert await names(job_pb2.JOB_STATE_FAILED) == []
        both = [queued.name, running]
        assert await names(job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING) == both
        assert await names(job_pb2.JOB_STATE_UNSPECIFIED) == both
        assert await names(job_pb2.JOB_STATE_UNSPECIFIED, job_pb2.JOB_STATE_FAILED) == both


@pytest.mark.parametrize(
    ("request_", "where"),
    [
        (pb.ListJobsRequest(page_size=-1), "page_size"),
        (pb.ListJobsRequest(page_token="page two"), "page_token"),
        (pb.ListJobsRequest(page_token="-5"), "page_token"),
        (pb.ListJobsRequest(states=[99]), "states"),  # type: ignore[list-item]
    ],
)  # fmt: skip
async def test_a_list_is_asked_for_properly(
    service: Service, request_: pb.ListJobsRequest, where: str
) -> None:
    text = await refused(service.jobs.ListJobs(request_), Code.INVALID_ARGUMENT)

    assert text.startswith(where)


async def test_a_queued_job_is_cancelled_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path / "state", slots=1) as service:
        await service.start()
        queued = await service.create()
        request = pb.CancelJobRequest(name=queued.name)

        job = (await service.jobs.CancelJob(request)).job
        again = (await service.jobs.CancelJob(request)).job

        assert job.state == job_pb2.JOB_STATE_CANCELLED
        assert job.HasField("end_time")
        assert again == job


async def test_a_running_job_is_asked_to_stop(service: Service) -> None:
    run = await service.start()
    request = pb.CancelJobRequest(name=f"jobs/{run.id}")

    job = (await service.jobs.CancelJob(request)).job
    await until(lambda: run.asked)
    await run.end("stopped")

    assert job.state == job_pb2.JOB_STATE_CANCELLING
    assert run.asked[0].stop
    assert service.launcher.runs[run.id].kills == 0
    assert (await service.get(run.id)).state == job_pb2.JOB_STATE_CANCELLED


@pytest.mark.parametrize("force", [True, False])
async def test_force_comes_at_once_or_after_the_grace_period(
    service: Service, force: bool
) -> None:
    run = await service.start()
    request = pb.CancelJobRequest(name=f"jobs/{run.id}", force=force)
    if not force:
        request.grace_period.FromMilliseconds(50)

    await service.jobs.CancelJob(request)
    job = await service.ended(run.id)

    assert service.launcher.runs[run.id].kills == 1
    assert job.state == job_pb2.JOB_STATE_CANCELLED


async def test_cancelling_an_unknown_job_is_not_found(service: Service) -> None:
    request = pb.CancelJobRequest(name="jobs/digits-x")

    await refused(service.jobs.CancelJob(request), Code.NOT_FOUND)
