"""JobService over sockets: every method, and every error with its code and details."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from dbp.rpc.enums import event_kind_from_proto
from dbp.rpc.spec_convert import spec_to_proto
from dbp.v1 import job_pb2, stream_pb2
from dbp.v1 import job_service_pb2 as pb
from tests.deadline import DEADLINE
from tests.service.setups import (
    Service,
    details,
    document,
    read_all,
    refused,
    serving,
    tensors,
    until,
)

Code = grpc.StatusCode


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state") as service:
        yield service


def create(**changes: Any) -> pb.CreateJobRequest:
    return pb.CreateJobRequest(spec=spec_to_proto(document(**changes)))


def end_of(message: pb.WatchJobsResponse | pb.StreamLogsResponse) -> str:
    name = stream_pb2.StreamEndReason.Name(message.end.reason)
    return name.removeprefix("STREAM_END_REASON_").lower()


def events(messages: list[pb.WatchJobsResponse]) -> list[str]:
    """The messages of a watch as text; without progress, of which there may be any number."""
    told = []
    for message in messages:
        match message.WhichOneof("event"):
            case "snapshot":
                told.append(f"snapshot {job_pb2.JobState.Name(message.snapshot.state)}")
            case "change":
                told.append(event_kind_from_proto(message.change.kind))
            case "end":
                told.append(f"end {end_of(message)}")
    return told


# Creating


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

    async with grpc.aio.insecure_channel(service.address) as channel:
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


# Showing


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


# Cancelling


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


async def test_cancelling_what_is_not_there_is_an_error(service: Service) -> None:
    request = pb.CancelJobRequest(name="jobs/digits-x")

    await refused(service.jobs.CancelJob(request), Code.NOT_FOUND)


# Watching


async def test_a_watch_sends_everything_and_an_end(service: Service) -> None:
    job = await service.create()
    job_id = job.name.removeprefix("jobs/")
    await until(lambda: job_id in service.launcher.runs)
    watch = service.watch(job_id)
    first = await watch.read()
    run = service.run_of(job_id)

    await run.attach()
    await run.progress(2, 3)
    await run.publish(3, tensors())
    await run.end()
    told = [first, *await read_all(watch)]

    assert events(told) == [
        "snapshot JOB_STATE_STARTING", "running", "parameters_published", "succeeded",
        "end job_ended",
    ]  # fmt: skip
    changes = [m.change for m in told if m.WhichOneof("event") == "change"]
    assert changes[0].job.state == job_pb2.JOB_STATE_RUNNING
    assert changes[1].job.latest_parameters.step == 3
    assert [c.sequence for c in changes] == sorted({c.sequence for c in changes})
    assert all(change.time.seconds for change in changes)
    progress = [m.progress for m in told if m.WhichOneof("event") == "progress"]
    assert {event.job for event in progress} == {job.name}
    assert progress[-1].progress.step == 3
    assert all(message.resume_token for message in told)


async def test_a_cut_watch_continues_without_a_gap(service: Service) -> None:
    run = await service.start()
    seen: list[str] = []
    token, watch = "", service.watch(run.id)

    for cut in range(3):
        message = await watch.read()
        token = message.resume_token
        seen += events([message])
        watch.cancel()
        await run.publish(10 + cut, tensors())
        watch = service.watch(run.id, token)
    await run.end()
    seen += events(await read_all(watch))

    assert seen == [
        "snapshot JOB_STATE_RUNNING", *["parameters_published"] * 3, "succeeded",
        "end job_ended",
    ]  # fmt: skip


async def test_watching_all_jobs_sees_the_new_ones(service: Service) -> None:
    old = await service.start()
    watch = service.watch()
    assert (await watch.read()).snapshot.name == f"jobs/{old.id}"

    await service.start(name="second")
    told: list[str] = []
    async with asyncio.timeout(DEADLINE):
        while "running" not in told:
            told += events([await watch.read()])

    assert told == ["created", "started", "running"]


async def test_an_ended_job_is_shown_and_the_watch_ends(service: Service) -> None:
    run = await service.start()
    await run.end()

    told = await read_all(service.watch(run.id))

    assert events(told) == ["snapshot JOB_STATE_SUCCEEDED", "end job_ended"]


async def test_a_silent_watch_shows_that_it_lives(tmp_path: Path) -> None:
    async with serving(tmp_path / "state", heartbeat_seconds=0.02) as service:
        watch = service.watch((await service.start()).id)
        first = await watch.read()

        kinds = set()
        async with asyncio.timeout(DEADLINE):
            while "heartbeat" not in kinds:
                message = await watch.read()
                kinds.add(message.WhichOneof("event"))

        assert message.resume_token == first.resume_token


async def test_a_slow_reader_misses_progress_but_no_change(service: Service) -> None:
    run = await service.start()
    slow = service.watch(run.id)
    told = [await slow.read()]

    # More than gRPC's windows hold, so that the service has to wait for the reader.
    long_name = "x" * 10_000
    for start in range(2, 1002, 250):
        await run.progress(*range(start, start + 250), metric=long_name)
        await run.publish(start, tensors(seed=start))
    await run.end()
    told += await read_all(slow)

    assert events(told)[1:] == [*["parameters_published"] * 4, "succeeded", "end job_ended"]
    reports = [m.progress for m in told if m.WhichOneof("event") == "progress"]
    steps = [report.progress.step for report in reports]
    assert steps[-1] == 1001, "the newest progress always comes"
    assert steps == sorted(set(steps))
    skipped = sum(report.skipped for report in reports)
    assert skipped > 0
    assert len(reports) + skipped == 1000, "whatever is left out is counted"


@pytest.mark.parametrize("token", ["x", "e", "e-1", "e1x", "12", "e\u0663", "e" + "9" * 400])
async def test_a_token_that_was_never_given_is_refused(service: Service, token: str) -> None:
    await service.create()

    text = await refused(read_all(service.watch("", token)), Code.INVALID_ARGUMENT)

    assert text.startswith("resume_token")


async def test_a_token_from_the_future_is_out_of_range(service: Service) -> None:
    await service.create()

    text = await refused(read_all(service.watch("", "e999")), Code.OUT_OF_RANGE)

    assert "watch again without a token" in text


async def test_a_job_that_is_not_there_cannot_be_watched(service: Service) -> None:
    await refused(read_all(service.watch("digits-x")), Code.NOT_FOUND)


# Logs


async def log_of(service: Service, **request: Any) -> list[pb.StreamLogsResponse]:
    return await read_all(service.jobs.StreamLogs(pb.StreamLogsRequest(**request)))


async def test_a_log_is_read_from_anywhere(service: Service) -> None:
    run = await service.start()
    run.write_log("one\ntwo\n")
    name = f"jobs/{run.id}"

    *chunks, last = await log_of(service, name=name)
    assert [line for chunk in chunks for line in chunk.lines] == ["one", "two"]
    assert end_of(last) == "end_of_log"

    run.write_log("three\n")
    resumed = await log_of(service, name=name, offset=last.next_offset, attempt=1)
    assert [line for chunk in resumed for line in chunk.lines] == ["three"]
    assert resumed[-1].next_offset == len("one\ntwo\nthree\n")


async def test_a_log_is_followed_to_the_end_of_the_job(service: Service) -> None:
    run = await service.start()
    stream = service.jobs.StreamLogs(pb.StreamLogsRequest(name=f"jobs/{run.id}", follow=True))
    run.write_log("one\n")
    first = await stream.read()

    run.write_log("two\nthe last words, without an end of line")
    await run.end()
    *rest, end = await read_all(stream)

    lines = [line for message in (first, *rest) for line in message.lines]
    assert lines == ["one", "two", "the last words, without an end of line"]
    assert end_of(end) == "job_ended"


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"offset": -1}, Code.INVALID_ARGUMENT, "offset"),
        ({"attempt": 2}, Code.NOT_FOUND, "no attempt 2"),
        ({"attempt": -1}, Code.NOT_FOUND, "no attempt -1"),
        ({"name": "jobs/digits-x"}, Code.NOT_FOUND, "digits-x"),
    ],
)
async def test_a_log_that_is_not_there_is_refused(
    service: Service, change: dict[str, Any], code: Code, text: str
) -> None:
    run = await service.start()

    answer = await refused(log_of(service, **{"name": f"jobs/{run.id}"} | change), code)

    assert text in answer


# Draining


async def test_streams_end_with_draining_and_training_is_left_alone(service: Service) -> None:
    run = await service.start()
    run.write_log("one\n")
    log = service.jobs.StreamLogs(pb.StreamLogsRequest(name=f"jobs/{run.id}", follow=True))
    streams = [service.watch(run.id), service.watch(), log]
    first = [await stream.read() for stream in streams]
    rest = [asyncio.create_task(read_all(stream)) for stream in streams]

    await service.stop()
    one, everything, lines = await asyncio.gather(*rest)

    assert [message.WhichOneof("event") for message in first[:2]] == ["snapshot", "snapshot"]
    assert events(one) == ["end draining"]
    assert events(everything) == ["end draining"]
    assert one[-1].resume_token == first[0].resume_token
    assert end_of(lines[-1]) == "draining"
    assert lines[-1].next_offset == len("one\n")
    running = service.launcher.runs[run.id]
    assert (running.stops, running.kills) == (0, 0)
