"""The metrics history of a job as arrays."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias, final

import numpy as np
import numpy.typing as npt

from dbp.client.arguments import shown, text, whole_number, wrong_type
from dbp.errors import InvalidArgument, alternatives
from dbp.job.metric_series import PointColumns
from dbp.rpc.metric_convert import series_from_proto
from dbp.rpc.scalar_convert import job_name, time_to_proto
from dbp.v1 import job_service_pb2 as pb

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Time: TypeAlias = float | datetime
Steps: TypeAlias = tuple[int | None, int | None]

MAX_POINTS: Final = 10_000
DEFAULT_POINTS: Final = 1_000
_LATEST: Final = 253_402_300_799  # the end of the year 9999


@final
@dataclass(frozen=True, eq=False, repr=False)
class MetricSeries:
    """Points of one metric, oldest first: arrays of shape (n,), one entry a point.

    A point is over the steps from ``first_step`` to ``step``. It is over more steps the older
    it is, and the more points were merged to return as many as asked for; extremes stay.

    Attributes:
        name: Name of the metric, such as ``loss`` or ``validation_accuracy``.
        per_epoch: Whether its points come at the ends of epochs, not with every report.
        step: Last step of each point; steps count from 1.
        first_step: First step of each point.
        epoch: Epoch of the last step, from 1.
        time: Unix time of the report on the last step, in seconds.
        count: Number of finite values in mean, minimum and maximum.
        mean: Mean of the values; NaN if none is finite, as in the two below. In the unit of
            the metric: ``samples_per_second`` in samples a second, the others without unit.
        minimum: Least value.
        maximum: Greatest value.
        last: Value at the last step; NaN or infinite where the training was.
        retaken: Whether steps of the point were taken again, by a later attempt or after a
            roll-back: the values are those of the last time.
    """

    name: str
    per_epoch: bool
    step: Integers
    first_step: Integers
    epoch: Integers
    time: Floats
    count: Integers
    mean: Floats
    minimum: Floats
    maximum: Floats
    last: Floats
    retaken: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.step)

    def __repr__(self) -> str:
        span = f" over steps {self.first_step[0]} to {self.step[-1]}" if len(self) else ""
        return f"<MetricSeries {self.name!r}: {len(self)} points{span}>"


@final
@dataclass(frozen=True, eq=False, repr=False)
class JobMetrics(Mapping[str, MetricSeries]):
    """The metrics history of one job: a read-only mapping from names to series.

    One history across all attempts, pauses and roll-backs of the job.
    """

    job_id: str
    series: Mapping[str, MetricSeries]

    def __getitem__(self, name: str) -> MetricSeries:
        if name not in self.series:
            raise KeyError(f"{name}{alternatives(str(name), list(self.series), 'metrics')}")
        return self.series[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.series)

    def __len__(self) -> int:
        return len(self.series)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} ({len(one)})" for name, one in self.series.items())
        return f"<JobMetrics of {self.job_id}: {counts or 'none'}>"


def metrics_request(
    job_id: str,
    names: Sequence[str] | str | None,
    steps: Steps | None,
    since: Time | None,
    until: Time | None,
    points: int,
) -> pb.QueryMetricsRequest:
    """Return the request for a job's history; InvalidArgument or InvalidType."""
    request = pb.QueryMetricsRequest(
        jobs=[job_name(text("job_id", job_id))],
        names=_names(names),
        max_points=whole_number("points", points, minimum=1, maximum=MAX_POINTS),
    )
    first, last = _steps(steps)
    if first is not None:
        request.first_step = first
    if last is not None:
        request.last_step = last
    if since is not None:
        request.start_time.CopyFrom(time_to_proto(_seconds("since", since)))
    if until is not None:
        request.end_time.CopyFrom(time_to_proto(_seconds("until", until)))
    return request


def metrics_of(job_id: str, answer: pb.QueryMetricsResponse) -> JobMetrics:
    """Return the history of a job from the answer to its request."""
    found: dict[str, MetricSeries] = {}
    for proto in answer.series:
        series, points = series_from_proto(proto)
        found.setdefault(series.name, _series(series.name, series.per_epoch, points))
    return JobMetrics(job_id, found)


def _series(name: str, per_epoch: bool, points: PointColumns) -> MetricSeries:
    return MetricSeries(
        name=name,
        per_epoch=per_epoch,
        step=np.array(points.step, np.int64),
        first_step=np.array(points.first_step, np.int64),
        epoch=np.array(points.epoch, np.int64),
        time=np.array(points.time, np.float64),
        count=np.array(points.counted, np.int64),
        mean=np.array(points.mean, np.float64),
        minimum=np.array(points.minimum, np.float64),
        maximum=np.array(points.maximum, np.float64),
        last=np.array(points.last, np.float64),
        retaken=np.array(points.retaken, np.bool_),
    )


def _names(names: object) -> list[str]:
    if names is None:
        return []
    if isinstance(names, str):
        return [text("names", names)]
    if not isinstance(names, list | tuple | set | frozenset):
        raise wrong_type("names", "a list of str", names)
    return [text("names", name) for name in names]


def _steps(steps: object) -> Steps:
    """Return the first and the last step, each None for all."""
    if steps is None:
        return None, None
    if not isinstance(steps, tuple) or len(steps) != 2:
        raise wrong_type("steps", "a tuple (first, last), each a number or None", steps)
    first = None if steps[0] is None else whole_number("steps", steps[0])
    last = None if steps[1] is None else whole_number("steps", steps[1], minimum=first or 0)
    return first, last


def _seconds(name: str, value: object) -> float:
    given: Any = value
    if isinstance(value, datetime):
        given = value.timestamp()
    elif isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise wrong_type(name, "a datetime or Unix seconds", value)
    if not 0 <= given < _LATEST:  # false for NaN, too
        raise InvalidArgument(f"{name}: must be a time from 1970 to 9999, got {shown(value)}")
    return float(given)
