"""PauseJob, ResumeJob, RetryJob and DeleteJob over gRPC: answers, codes, streams of readers."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from dbp.launch.launcher import Exit
from dbp.rpc.scalar_convert import job_name
from dbp.rpc.spec_convert import spec_to_proto
from dbp.v1 import job_pb2
from dbp.v1 import job_service_pb2 as jobs_pb
from dbp.v1 import parameter_service_pb2 as parameters_pb
from tests.deadline import DEADLINE
from tests.service.job_requests import Code
from tests.service.setups import (
    Run,
    Service,
    document,
    read_all,
    refused,
    selector,
    serving,
    tensors,
    until,
)


def request(service: Service, kind: str, job_id: str, **fields: Any) -> Any:
    """A call of PauseJob, ResumeJob, RetryJob or DeleteJob."""
    message = getattr(jobs_pb, f"{kind}JobRequest")(name=job_name(job_id), **fields)
    return getattr(service.jobs, f"{kind}Job")(message)


async def trained(service: Service, values: int = 6) -> Run:
    run = await service.start()
    await run.publish(2, tensors(values), final=True)
    await run.end()
    return run


async def in_state(service: Service, job_id: str, state: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while (await service.get(job_id)).state != state:
            await asyncio.sleep(0.01)


async def test_a_job_is_paused_and_resumed(service: Service) -> None:
    run = await service.start()

    paused = (await request(service, "Pause", run.id)).job
    assert paused.state == job_pb2.JOB_STATE_PAUSING
    await until(lambda: run.asked and run.asked[0].stop)
    running = service.launcher.runs[run.id]
    running.write_result("stopped", "stop_requested")
    running.end(Exit(exit_code=75))
    await in_state(service, run.id, job_pb2.JOB_STATE_PAUSED)
    assert (await request(service, "Pause", run.id)).job.state == job_pb2.JOB_STATE_PAUSED

    resumed = (await request(service, "Resume", run.id)).job
    assert resumed.state in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_STARTING)
    await until(lambda: len(service.launcher.requests) == 2)
    assert service.launcher.requests[1].attempt == 2


@pytest.mark.parametrize(
    ("kind", "text"),
    [("Pause", "is SUCCEEDED"), ("Resume", "is SUCCEEDED"), ("Retry", "is SUCCEEDED")],
)
async def test_an_ended_job_is_not_changed(service: Service, kind: str, text: str) -> None:
    run = await trained(service)

    assert text in await refused(request(service, kind, run.id), Code.FAILED_PRECONDITION)


async def test_a_running_job_is_not_deleted(service: Service) -> None:
    run = await service.start()

    text = await refused(request(service, "Delete", run.id), Code.FAILED_PRECONDITION)

    assert f"dbp cancel {run.id}" in text
    assert (await service.get(run.id)).state == job_pb2.JOB_STATE_RUNNING


@pytest.mark.parametrize("kind", ["Pause", "Resume", "Retry", "Delete"])
async def test_unknown_jobs_and_names(service: Service, kind: str) -> None:
    await refused(request(service, kind, "digits-none"), Code.NOT_FOUND)
    message = getattr(jobs_pb, f"{kind}JobRequest")(name="digits-none")
    await refused(getattr(service.jobs, f"{kind}Job")(message), Code.INVALID_ARGUMENT)


async def test_a_deleted_job_is_not_found_by_any_reader(service: Service) -> None:
    run = await trained(service)

    deleted = (await request(service, "Delete", run.id)).job

    assert deleted.name == job_name(run.id)
    assert deleted.state == job_pb2.JOB_STATE_SUCCEEDED
    wanted = selector(run.id)
    for call in (
        service.jobs.GetJob(jobs_pb.GetJobRequest(name=job_name(run.id))),
        request(service, "Delete", run.id),
        service.parameters.GetParameters(parameters_pb.GetParametersRequest(selector=wanted)),
        service.parameters.GetParameterInfo(
            parameters_pb.GetParameterInfoRequest(selector=wanted)
        ),
        service.watch(run.id).read(),
    ):
        assert "was deleted" in await refused(call, Code.NOT_FOUND)


@pytest.mark.parametrize("restart", [False, True])
async def test_a_deletion_whose_answer_was_lost_answers_again(
    tmp_path: Path, restart: bool
) -> None:
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(serving(tmp_path / "state"))
        run = await trained(service)
        first = await request(service, "Delete", run.id, request_id="one")
        if restart:
            await stack.aclose()
            service = await stack.enter_async_context(serving(tmp_path / "state"))

        again = await request(service, "Delete", run.id, request_id="one")

        assert again.job.spec_omitted
        first.job.spec.CopyFrom(job_pb2.JobSpec(name="digits"))
        first.job.spec_omitted = True
        assert again == first
        for other in ("two", ""):
            await refused(request(service, "Delete", run.id, request_id=other), Code.NOT_FOUND)
        events = service.watch()
        message = await events.read()
        assert not message.snapshot.name, "the job is listed no more"
        events.cancel()


async def test_the_id_of_a_request_deletes_one_job(service: Service) -> None:
    one, other = await trained(service), await trained(service)
    await request(service, "Delete", one.id, request_id="one")

    text = await refused(
        request(service, "Delete", other.id, request_id="one"), Code.ALREADY_EXISTS
    )
    assert "'one' belongs to another request" in text
    assert (await service.get(other.id)).state == job_pb2.JOB_STATE_SUCCEEDED
    await refused(
        request(service, "Delete", other.id, request_id="x" * 129), Code.INVALID_ARGUMENT
    )
    create = jobs_pb.CreateJobRequest(spec=spec_to_proto(document()), request_id="one")
    assert "or deleted it" in await refused(service.jobs.CreateJob(create), Code.ALREADY_EXISTS)


async def test_watchers_of_all_jobs_see_the_deletion_and_the_name_only(
    service: Service,
) -> None:
    run = await trained(service)
    begin = service.watch()
    token = (await begin.read()).resume_token
    begin.cancel()
    other = await trained(service)
    for job_id in (run.id, other.id):
        await request(service, "Delete", job_id)

    watch = service.watch(token=token)
    seen: list[tuple[str, str, bool]] = []
    while len([kind for kind, *_ in seen if kind.endswith("DELETED")]) < 2:
        message = await watch.read()
        if message.WhichOneof("event") == "change":
            kind = jobs_pb.JobEventKind.Name(message.change.kind)
            job = message.change.job
            seen.append((kind, job.name, job.spec_omitted))
            assert job.spec.name == "digits"
    watch.cancel()

    deleted = [(name, kind) for kind, name, _ in seen if kind == "JOB_EVENT_KIND_DELETED"]
    assert [name for name, _ in deleted] == [job_name(run.id), job_name(other.id)]
    created = [omitted for kind, *_, omitted in seen if kind == "JOB_EVENT_KIND_CREATED"]
    assert len(created) == 1, "no event is left out"


async def test_stored_events_of_a_deleted_job_say_that_its_spec_is_gone(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path / "state") as service:
        run = await trained(service)
        await request(service, "Delete", run.id)

    async with serving(tmp_path / "state") as service:
        messages = await read_all(service.watch(run.id, token="e1"))

    jobs = [m.change.job for m in messages if m.WhichOneof("event") == "change"]
    assert jobs
    assert all(job.spec_omitted and job.spec.name == "digits" for job in jobs)


def open_files(job_id: str) -> list[str]:
    """The open files of this process that are, or were, in the folder of a job."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue
    return [name for name in found if job_id in name]


async def test_a_download_is_finished_and_its_file_closed(
    service: Service, tmp_path: Path
) -> None:
    run = await trained(service, values=3_000_000)
    stream = service.parameters.StreamParameters(
        parameters_pb.StreamParametersRequest(selector=selector(run.id))
    )
    first = await stream.read()
    assert first.WhichOneof("payload") == "header"

    await request(service, "Delete", run.id)

    assert not (tmp_path / "state" / "jobs" / run.id).exists()
    messages = await read_all(stream)
    content = b"".join(m.chunk.data for m in messages if m.WhichOneof("payload") == "chunk")
    assert hashlib.sha256(content).hexdigest() == first.header.version.digest
    assert messages[-1].trailer.digest == first.header.version.digest
    await until(lambda: not open_files(run.id))


async def test_a_watcher_of_a_label_receives_the_deletion(service: Service) -> None:
    run = await trained(service)
    watch = service.parameters.WatchParameters(
        parameters_pb.WatchParametersRequest(job=job_name(run.id), label="live")
    )
    reading = watch.read()

    await request(service, "Delete", run.id)

    assert "was deleted" in await refused(reading, grpc.StatusCode.NOT_FOUND)
