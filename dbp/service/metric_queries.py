"""Answer QueryMetrics: check the request, find the series of its jobs, read their points."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, final

from dbp.errors import InvalidInput, alternatives
from dbp.job.metric_series import PointColumns, SeriesName
from dbp.job.state import Job
from dbp.jobs.manager import JobManager
from dbp.jobs.metric_points import MAX_NAMES
from dbp.jobs.metric_query import PointRange
from dbp.rpc.metric_convert import series_to_proto
from dbp.rpc.scalar_convert import time_from_proto
from dbp.service.job_access import JobAccess
from dbp.v1 import job_service_pb2 as pb

# Bounds of a request, and of an answer, which stays below the limit on messages: a point takes
# 73 bytes at most, the names of a series 1,000.
MAX_JOBS: Final = 64
MAX_POINTS: Final = 10_000
MAX_SERIES: Final = 1_000
MAX_ANSWER_POINTS: Final = 40_000
DEFAULT_POINTS: Final = 1_000

_SHOWN: Final = 80


@final
class MetricQueries:
    """Reads the metrics history of jobs for callers who may read the jobs."""

    def __init__(self, manager: JobManager, access: JobAccess) -> None:
        self._manager = manager
        self._access = access

    async def answer(self, request: pb.QueryMetricsRequest) -> pb.QueryMetricsResponse:
        """Return the points that a request asks for; the errors that the proto lists."""
        wanted = _range(request)
        _check_names(request.names)
        jobs = await self._jobs(request.jobs)
        found = await self._manager.history.series([job.id for job in jobs])
        _check_known(request.names, jobs, found)
        names = frozenset(request.names)
        found = [series for series in found if not names or series.name in names]
        if len(found) > MAX_SERIES:
            raise InvalidInput(
                f"jobs: they have {len(found):,} series of metrics, at most {MAX_SERIES:,} fit "
                "into an answer; name fewer jobs, or metrics"
            )
        points = min(wanted.points, MAX_ANSWER_POINTS // max(1, len(found)))
        limited = replace(wanted, points=points)
        read = [(one, await self._manager.history.points(one, limited)) for one in found]
        return await asyncio.to_thread(_answer, read, points)

    async def _jobs(self, names: Sequence[str]) -> list[Job]:
        """Return the named jobs, each once; the caller may read them all."""
        if not 1 <= len(names) <= MAX_JOBS:
            raise InvalidInput(
                f"jobs: name at least 1 job and at most {MAX_JOBS}, got {len(names):,}"
            )
        found = {}
        for number, name in enumerate(names):
            job_id = await self._access.readable(name, f"jobs[{number}]")
            if job_id not in found:
                found[job_id] = await self._manager.get(job_id)
        return list(found.values())


def _range(request: pb.QueryMetricsRequest) -> PointRange:
    """Return the range of a request; InvalidInput."""
    given = PointRange(first_step=request.first_step)
    last_step = request.last_step if request.HasField("last_step") else given.last_step
    start, end = given.start_time, given.end_time
    if request.HasField("start_time"):
        start = time_from_proto(request.start_time)
    if request.HasField("end_time"):
        end = time_from_proto(request.end_time)
    if request.first_step < 0:
        raise InvalidInput(f"first_step: must be >= 0, got {request.first_step}")
    if last_step < request.first_step:
        raise InvalidInput(
            f"last_step: must be >= first_step, which is {request.first_step}, got {last_step}"
        )
    if end < start:
        raise InvalidInput("end_time: must not be before start_time")
    if not 0 <= request.max_points <= MAX_POINTS:
        raise InvalidInput(
            f"max_points: must be from 1 to {MAX_POINTS:,}, or 0 for {DEFAULT_POINTS:,}, "
            f"got {request.max_points}"
        )
    return PointRange(
        request.first_step, last_step, start, end, request.max_points or DEFAULT_POINTS
    )


def _check_names(names: Sequence[str]) -> None:
    if len(names) > MAX_NAMES:
        raise InvalidInput(f"names: at most {MAX_NAMES} metrics, got {len(names):,}")


def _check_known(
    names: Sequence[str], jobs: Sequence[Job], found: Sequence[SeriesName]
) -> None:
    """Raise InvalidInput for a name that no job has, unless one of them may still report it.

    A job reports all its metrics by the end of its first epoch.
    """
    known = list(dict.fromkeys(series.name for series in found))
    complete = {series.job_id for series in found if series.per_epoch}
    if any(not job.state.terminal and job.id not in complete for job in jobs):
        return
    for number, name in enumerate(names):
        if name not in known:
            raise InvalidInput(
                f"names[{number}]: no metric {name[:_SHOWN]!r}"
                f"{alternatives(name, known, 'metrics')}"
            )


def _answer(
    read: Sequence[tuple[SeriesName, PointColumns]], points: int
) -> pb.QueryMetricsResponse:
    series = [series_to_proto(name, columns) for name, columns in read]
    return pb.QueryMetricsResponse(series=series, max_points=points)
