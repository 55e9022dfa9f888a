"""The metrics history of a job as arrays, against a real server over a launcher that starts
nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dbp
from dbp.client.metrics import metrics_of, metrics_request
from dbp.errors import InvalidArgument, InvalidInput, InvalidType, NotFound
from dbp.job.metric_series import PointColumns, SeriesKind, SeriesName
from dbp.rpc.metric_convert import series_to_proto
from dbp.rpc.scalar_convert import time_from_proto
from dbp.v1 import job_service_pb2 as pb
from tests.service.metric_reports import Reporter, received
from tests.service.setups import Run, Service, serving


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state") as service:
        yield service


@pytest.fixture
async def run(service: Service) -> Run:
    """A run with steps 1 to 12, of which 5 to 8 were taken again."""
    run = await service.start()
    reporter = Reporter(run)
    reporter.send(4, 8)
    reporter.send(8, 12, rollbacks=1, loss=2.0, epoch_end=True)
    await received(service, run, 12)
    return run


async def test_a_series_has_one_entry_a_point_in_each_array(service: Service, run: Run) -> None:
    async with dbp.AsyncClient(service.address) as client:
        metrics = await (await client.job(run.id)).metrics()

    assert metrics.job_id == run.id
    assert list(metrics) == ["loss", "learning_rate", "samples_per_second", "validation_loss"]
    loss = metrics["loss"]
    assert (len(loss), loss.per_epoch) == (3, False)
    expected: dict[str, list[object]] = {
        "step": [4, 8, 12], "first_step": [1, 5, 9], "epoch": [1, 1, 1],
        "time": [1_004.0, 1_008.0, 1_012.0], "count": [4, 4, 4], "mean": [1.0, 2.0, 2.0],
        "minimum": [0.0, 1.0, 1.0], "maximum": [2.0, 3.0, 3.0], "last": [1.0, 2.0, 2.0],
        "retaken": [False, True, False],
    }  # fmt: skip
    whole = {"step", "first_step", "epoch", "count"}
    for name, values in expected.items():
        array = getattr(loss, name)
        assert array.tolist() == values, name
        kind = np.int64 if name in whole else np.bool_ if name == "retaken" else np.float64
        assert array.dtype == kind, name
    assert metrics["validation_loss"].per_epoch
    assert repr(loss) == "<MetricSeries 'loss': 3 points over steps 1 to 12>"
    assert repr(metrics).startswith(f"<JobMetrics of {run.id}: loss (3), ")


async def test_names_steps_times_and_points_are_chosen(service: Service, run: Run) -> None:
    async with dbp.AsyncClient(service.address) as client:
        job = await client.job(run.id)

        async def steps(**wanted: Any) -> list[int]:
            found = await job.metrics("loss", **wanted)
            assert list(found) == ["loss"]
            steps: list[int] = found["loss"].step.tolist()
            return steps

        assert await steps(steps=(5, None)) == [8, 12]
        assert await steps(steps=(None, 5)) == [4, 8]
        assert await steps(steps=(6, 7)) == [8]
        assert await steps(since=1_008.0) == [8, 12]
        assert await steps(until=datetime.fromtimestamp(1_008.0, UTC)) == [4, 8]
        assert await steps(points=1) == [12]
        some = await job.metrics(["loss", "validation_loss"])
        assert list(some) == ["loss", "validation_loss"]


async def test_the_plain_client_returns_the_same(service: Service, run: Run) -> None:
    def read() -> list[float]:
        with dbp.Client(service.address) as client:
            found: list[float] = client.job(run.id).metrics(["loss"])["loss"].mean.tolist()
            return found

    assert await asyncio.to_thread(read) == [1.0, 2.0, 2.0]


async def test_an_unknown_job_or_metric_is_an_error_that_names_it(
    service: Service, run: Run
) -> None:
    async with dbp.AsyncClient(service.address) as client:
        job = await client.job(run.id)
        with pytest.raises(InvalidInput, match="no metric 'los', did you mean 'loss'"):
            await job.metrics("los")
        with pytest.raises(KeyError, match="did you mean 'loss'"):
            (await job.metrics())["los"]
        await run.end()
        await job.delete()
        with pytest.raises(NotFound, match=run.id):
            await job.metrics()


def test_a_job_without_metrics_has_none() -> None:
    metrics = metrics_of("a", pb.QueryMetricsResponse())

    assert (len(metrics), dict(metrics)) == (0, {})
    assert repr(metrics) == "<JobMetrics of a: none>"


def test_points_of_steps_come_before_those_of_epochs_with_the_same_name() -> None:
    both = [
        series_to_proto(SeriesName("a", "loss", kind), PointColumns()) for kind in SeriesKind
    ]

    (loss,) = metrics_of("a", pb.QueryMetricsResponse(series=both)).values()

    assert not loss.per_epoch
    assert loss.step.dtype == np.int64
    assert repr(loss) == "<MetricSeries 'loss': 0 points>"


def test_a_time_of_any_zone_is_the_same_time() -> None:
    east = datetime(2026, 1, 31, 18, tzinfo=timezone(timedelta(hours=5)))

    request = metrics_request("a", None, None, east, east.timestamp(), 5)

    assert time_from_proto(request.start_time) == east.timestamp()
    assert request.start_time == request.end_time
    assert (request.first_step, request.HasField("last_step")) == (0, False)


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({"names": 5}, InvalidType, "names: must be a list of str"),
        ({"names": [5]}, InvalidType, "names: must be a str"),
        ({"steps": 5}, InvalidType, r"steps: must be a tuple \(first, last\)"),
        ({"steps": (1, 2, 3)}, InvalidType, "steps: must be a tuple"),
        ({"steps": ("1", 2)}, InvalidType, "steps: must be an integer"),
        ({"steps": (-1, None)}, InvalidArgument, "steps: must be >= 0"),
        ({"steps": (9, 8)}, InvalidArgument, "steps: must be >= 9, got 8"),
        ({"since": "2026"}, InvalidType, "since: must be a datetime or Unix seconds"),
        ({"since": True}, InvalidType, "since: must be a datetime"),
        ({"until": math.nan}, InvalidArgument, "until: must be a time from 1970 to 9999"),
        ({"until": 1e12}, InvalidArgument, "until: must be a time from 1970 to 9999"),
        ({"points": 0}, InvalidArgument, "points: must be >= 1"),
        ({"points": 10_001}, InvalidArgument, "points: must be <= 10,000"),
    ],
)
def test_an_argument_is_checked_before_anything_is_sent(
    given: dict[str, Any], kind: type[Exception], text: str
) -> None:
    wanted: dict[str, Any] = {
        "names": None, "steps": None, "since": None, "until": None, "points": 1
    }  # fmt: skip

    with pytest.raises(kind, match=f"^{text}"):
        metrics_request("a", **{**wanted, **given})
