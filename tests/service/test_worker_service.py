"""WorkerService over sockets: authorization of reports, odd reports, registration."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from dbp.job.step_window import StepWindow
from dbp.rpc.job_convert import window_to_proto
from dbp.rpc.spec_convert import spec_to_proto
from dbp.storage.metrics_file import open_metrics
from dbp.v1 import job_pb2, stream_pb2
from dbp.v1 import worker_service_pb2 as pb
from tests.jobs.stored_points import stored_points
from tests.service.setups import Service, document, refused
from tests.service.worker_calls import (
    DATA,
    Code,
    at_step,
    attach,
    header,
    hello,
    launched,
    publish,
    refused_stream,
)


@pytest.mark.parametrize("secret", [None, "", "wrong"])
async def test_reports_of_a_run_without_its_secret_are_refused(
    service: Service, secret: str | None
) -> None:
    job_id, _ = await launched(service)

    await refused_stream(
        lambda: attach(service, secret, hello(job_id), at_step(1, 9)), Code.UNAUTHENTICATED
    )
    await refused_stream(
        lambda: publish(service, secret, header(job_id), [DATA]), Code.UNAUTHENTICATED
    )

    job = await service.get(job_id)
    assert job.state == job_pb2.JOB_STATE_STARTING
    assert not job.HasField("latest_parameters")


async def test_the_secret_of_another_job_does_not_fit(service: Service) -> None:
    job_id, secret = await launched(service)
    other = (await service.create()).name.removeprefix("jobs/")

    await refused_stream(lambda: attach(service, secret, hello(other)), Code.UNAUTHENTICATED)
    assert (await service.get(job_id)).state == job_pb2.JOB_STATE_STARTING


async def test_an_unknown_job_is_refused_like_a_wrong_secret(service: Service) -> None:
    _, secret = await launched(service)

    await refused_stream(
        lambda: attach(service, secret, hello("digits-nobody")), Code.UNAUTHENTICATED
    )
    await refused_stream(
        lambda: publish(service, secret, header("digits-nobody"), [DATA]), Code.UNAUTHENTICATED
    )


async def test_another_attempt_is_refused(service: Service) -> None:
    job_id, secret = await launched(service)

    await refused_stream(
        lambda: attach(service, secret, hello(job_id, attempt=2)), Code.UNAUTHENTICATED
    )
    await refused_stream(
        lambda: publish(service, secret, header(job_id, attempt=2), [DATA]),
        Code.UNAUTHENTICATED,
    )


async def test_a_stream_begins_with_a_hello(service: Service) -> None:
    _, secret = await launched(service)

    await refused_stream(lambda: attach(service, secret), Code.INVALID_ARGUMENT)
    await refused_stream(lambda: attach(service, secret, at_step(1, 1)), Code.INVALID_ARGUMENT)


async def test_another_number_of_ranks_is_refused_with_the_likely_cause(
    service: Service,
) -> None:
    job_id, secret = await launched(service)

    text = await refused_stream(
        lambda: attach(service, secret, hello(job_id, world_size=2)), Code.FAILED_PRECONDITION
    )

    assert "another MPI" in text


async def test_reports_are_acknowledged_in_order_and_heartbeats_are_not(
    service: Service,
) -> None:
    job_id, secret = await launched(service)
    beat = pb.AttachRequest(heartbeat=stream_pb2.Heartbeat())

    answers = await attach(service, secret, hello(job_id), at_step(1, 3), beat, at_step(2, 4))

    assert [answer.acknowledged for answer in answers] == [1, 2]
    assert (await service.get(job_id)).progress.step == 4


async def test_a_report_sent_again_is_acknowledged_and_applied_once(service: Service) -> None:
    job_id, secret = await launched(service)
    await attach(service, secret, hello(job_id), at_step(1, 3), at_step(2, 8))

    again = await attach(service, secret, hello(job_id), at_step(1, 3), at_step(2, 3))

    assert [answer.acknowledged for answer in again] == [2, 2]
    assert (await service.get(job_id)).progress.step == 8

    await attach(service, secret, hello(job_id), at_step(3, 9))
    assert (await service.get(job_id)).progress.step == 9


async def test_registering_twice_with_one_request_id_gives_one_job(service: Service) -> None:
    request = pb.RegisterRunRequest(
        spec=spec_to_proto(document()), workers=2, request_id="8a1f", host="node1"
    )

    first = await service.worker.RegisterRun(request)
    second = await service.worker.RegisterRun(request)

    assert first.job.name == second.job.name
    assert first.job.attached
    # Only the newest secret counts.
    job_id = first.job.name.removeprefix("jobs/")
    greeting = hello(job_id, world_size=2)
    await refused_stream(lambda: attach(service, first.secret, greeting), Code.UNAUTHENTICATED)
    assert await attach(service, second.secret, greeting) == []


async def test_a_bad_spec_cannot_be_registered(service: Service) -> None:
    bad = document(optimizer={"kind": "adm", "learning_rate": 0.1})

    text = await refused(
        service.worker.RegisterRun(pb.RegisterRunRequest(spec=spec_to_proto(bad), workers=1)),
        Code.INVALID_ARGUMENT,
    )

    assert "did you mean 'adam'" in text


async def test_acknowledged_progress_is_in_the_metrics_history(
    service: Service, tmp_path: Path
) -> None:
    job_id, secret = await launched(service)
    reports = [at_step(number, 5 * number) for number in (1, 2, 3)]
    for number, report in enumerate(reports, start=1):
        window = StepWindow(5 * number - 4, 5, 1.0, 0.5, 2.0)
        report.progress.window.CopyFrom(window_to_proto(window))

    answers = await attach(service, secret, hello(job_id), *reports, reports[0])

    assert max(answer.acknowledged for answer in answers) == 3
    with contextlib.closing(open_metrics(tmp_path / "state" / "metrics.sqlite")) as file:
        points = stored_points(file, job_id)
    assert [(p.first_step, p.step, p.mean, p.minimum, p.maximum) for p in points] == [
        (1, 5, 1.0, 0.5, 2.0), (6, 10, 1.0, 0.5, 2.0), (11, 15, 1.0, 0.5, 2.0)
    ]  # fmt: skip
