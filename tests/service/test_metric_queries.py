"""QueryMetrics over sockets: the history of jobs, its bounds, and every error."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dbp.job.metric_series import PointColumns, SeriesKind, SeriesName
from dbp.jobs.metric_points import MAX_NAME_LENGTH
from dbp.rpc.channel import MAX_ANSWER_BYTES
from dbp.rpc.scalar_convert import time_to_proto
from dbp.service import metric_queries
from dbp.service.metric_queries import MAX_ANSWER_POINTS, MAX_JOBS, MAX_POINTS, MAX_SERIES
from dbp.v1 import job_service_pb2 as pb
from dbp.v1 import metric_pb2
from tests.service.job_requests import Code
from tests.service.metric_reports import Reporter, received
from tests.service.setups import Service, refused, serving


async def query(service: Service, *job_ids: str, **fields: object) -> pb.QueryMetricsResponse:
    names = [f"jobs/{job_id}" for job_id in job_ids]
    request = pb.QueryMetricsRequest(jobs=names, **fields)  # type: ignore[arg-type]
    answer: pb.QueryMetricsResponse = await service.jobs.QueryMetrics(request)
    return answer


def by_name(answer: pb.QueryMetricsResponse) -> dict[str, metric_pb2.MetricSeries]:
    found = {series.name: series for series in answer.series}
    assert len(found) == len(answer.series)
    return found


async def test_an_answer_has_all_that_was_received_before_it(service: Service) -> None:
    run = await service.start()
    reporter = Reporter(run)
    reporter.send(4)
    await received(service, run, 4)
    await query(service, run.id)
    reporter.send(8, 12)  # within the time of one batch
    await received(service, run, 12)

    answer = await query(service, run.id)

    loss = by_name(answer)["loss"]
    assert (list(loss.first_steps), list(loss.steps)) == ([1, 5, 9], [4, 8, 12])


async def test_a_series_has_the_figures_that_the_run_reported(service: Service) -> None:
    run = await service.start()
    Reporter(run).send(4, loss=3.0, epoch_end=True)
    await received(service, run, 4)

    found = by_name(await query(service, run.id))

    assert list(found) == ["loss", "learning_rate", "samples_per_second", "validation_loss"]
    common: dict[str, Any] = {
        "job": f"jobs/{run.id}", "steps": [4], "epochs": [1], "times": [1_004.0],
        "retaken": [False],
    }  # fmt: skip
    assert found["loss"] == metric_pb2.MetricSeries(
        name="loss", kind=metric_pb2.METRIC_KIND_STEPS, first_steps=[1], counts=[4],
        means=[3.0], minimums=[2.0], maximums=[4.0], lasts=[3.0], **common,
    )  # fmt: skip
    assert found["validation_loss"] == metric_pb2.MetricSeries(
        name="validation_loss", kind=metric_pb2.METRIC_KIND_EPOCHS, first_steps=[4],
        counts=[1], means=[0.25], minimums=[0.25], maximums=[0.25], lasts=[0.25], **common,
    )  # fmt: skip


async def test_a_step_that_is_taken_again_says_so(service: Service) -> None:
    run = await service.start()
    reporter = Reporter(run)
    reporter.send(4, 8)
    reporter.send(8, 12, rollbacks=1, loss=2.0)
    await received(service, run, 12)

    loss = by_name(await query(service, run.id, names=["loss"]))["loss"]

    assert list(loss.steps) == [4, 8, 12]
    assert list(loss.means) == [1.0, 2.0, 2.0]
    assert list(loss.retaken) == [False, True, False]


async def test_a_request_chooses_names_steps_times_and_points(service: Service) -> None:
    run = await service.start()
    Reporter(run).send(*range(4, 44, 4))
    await received(service, run, 40)

    async def steps(**wanted: object) -> list[int]:
        answer = await query(service, run.id, names=["loss"], **wanted)
        return list(by_name(answer)["loss"].steps)

    assert await steps(first_step=30) == [32, 36, 40]
    assert await steps(last_step=5) == [4, 8]
    assert await steps(first_step=9, last_step=9) == [12]
    assert await steps(first_step=50) == []
    assert await steps(start_time=time_to_proto(1_036.0)) == [36, 40]
    assert await steps(end_time=time_to_proto(1_008.0)) == [4, 8]
    assert len(await steps(max_points=3)) == 3


async def test_jobs_are_answered_in_the_order_of_the_request_each_once(
    service: Service,
) -> None:
    first, second = await service.start(), await service.start()
    for run in (first, second):
        Reporter(run).send(4)
        await received(service, run, 4)
    queued = (await service.create()).name.removeprefix("jobs/")

    answer = await query(service, second.id, first.id, queued, second.id, names=["loss"])

    assert [series.job for series in answer.series] == [f"jobs/{second.id}", f"jobs/{first.id}"]
    assert not (await query(service, queued)).series


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"jobs": []}, "jobs: name at least 1 job and at most 64, got 0"),
        ({"jobs": ["jobs/a"] * (MAX_JOBS + 1)}, "jobs: name at least 1 job and at most 64"),
        ({"jobs": ["digits"]}, "jobs[0]: a job is named jobs/ID, got 'digits'"),
        ({"names": ["loss"] * 257}, "names: at most 256 metrics, got 257"),
        ({"first_step": -1}, "first_step: must be >= 0, got -1"),
        ({"first_step": 9, "last_step": 8}, "last_step: must be >= first_step, which is 9"),
        ({"max_points": -1}, "max_points: must be from 1 to 10,000, or 0 for 1,000, got -1"),
        ({"max_points": MAX_POINTS + 1}, "max_points: must be from 1 to 10,000"),
        (
            {"start_time": time_to_proto(2.0), "end_time": time_to_proto(1.0)},
            "end_time: must not be before start_time",
        ),
    ],
)
async def test_a_request_beyond_its_limits_is_refused(
    service: Service, wanted: dict[str, Any], text: str
) -> None:
    request = pb.QueryMetricsRequest(**{"jobs": ["jobs/a"], **wanted})

    told = await refused(service.jobs.QueryMetrics(request), Code.INVALID_ARGUMENT)

    assert told.startswith(text)


async def test_each_job_of_a_request_must_be_there(service: Service) -> None:
    run = await service.start()
    names = [f"jobs/{run.id}", "jobs/digits-x"]

    text = await refused(
        service.jobs.QueryMetrics(pb.QueryMetricsRequest(jobs=names)), Code.NOT_FOUND
    )

    assert "digits-x" in text


async def test_an_unknown_metric_is_refused_with_the_nearest_name_once_all_are_known(
    service: Service,
) -> None:
    run, other = await service.start(), await service.start()
    reporter = Reporter(run)
    reporter.send(4)
    await received(service, run, 4)
    early = await query(service, run.id, names=["validation_los"])
    assert not early.series  # an epoch's end may bring it
    reporter.send(8, epoch_end=True)
    await received(service, run, 8)

    def request(*job_ids: str) -> pb.QueryMetricsRequest:
        jobs = [f"jobs/{job_id}" for job_id in job_ids]
        return pb.QueryMetricsRequest(jobs=jobs, names=["loss", "validation_los"])

    text = await refused(service.jobs.QueryMetrics(request(run.id)), Code.INVALID_ARGUMENT)

    assert text == (
        "names[1]: no metric 'validation_los', did you mean 'validation_loss'? metrics: loss, "
        "learning_rate, samples_per_second, validation_loss"
    )
    both = await service.jobs.QueryMetrics(request(run.id, other.id))
    assert [series.name for series in both.series] == ["loss"]
    await other.end()
    await refused(service.jobs.QueryMetrics(request(run.id, other.id)), Code.INVALID_ARGUMENT)


async def test_many_series_share_the_points_of_an_answer(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await service.start()
    Reporter(run).send(*range(4, 44, 4))
    await received(service, run, 40)
    monkeypatch.setattr(metric_queries, "MAX_ANSWER_POINTS", 12)

    answer = await query(service, run.id)

    assert answer.max_points == 4
    assert [len(series.steps) for series in answer.series] == [4, 4, 4]
    monkeypatch.setattr(metric_queries, "MAX_SERIES", 2)
    request = pb.QueryMetricsRequest(jobs=[f"jobs/{run.id}"])
    text = await refused(service.jobs.QueryMetrics(request), Code.INVALID_ARGUMENT)
    assert text.startswith("jobs: they have 3 series of metrics, at most 2 fit")


def test_the_largest_answer_is_below_the_limit_on_messages() -> None:
    points = MAX_ANSWER_POINTS // MAX_SERIES
    widest: dict[str, Any] = {
        "step": 2**62, "first_step": 2**62, "epoch": 2**31 - 1, "counted": 2**62,
        "retaken": True,
    }  # fmt: skip
    columns = PointColumns(
        **{
            field.name: (widest.get(field.name, math.pi),) * points
            for field in fields(PointColumns)
        }
    )
    name = SeriesName(
        "j" * 100, "\N{CJK UNIFIED IDEOGRAPH-4E00}" * MAX_NAME_LENGTH, SeriesKind.EPOCHS
    )

    answer = metric_queries._answer([(name, columns)] * MAX_SERIES, points)

    assert 3_000_000 < answer.ByteSize() <= MAX_ANSWER_BYTES


async def test_the_history_of_a_restarted_service_is_still_there(tmp_path: Path) -> None:
    async with serving(tmp_path / "state") as service:
        run = await service.start()
        Reporter(run).send(4)
        await received(service, run, 4)
        await run.end()
    async with serving(tmp_path / "state") as service:
        assert list(by_name(await query(service, run.id))["loss"].steps) == [4]
