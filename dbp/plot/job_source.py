"""The figures of a job of a service for curves, from its metrics history."""

from __future__ import annotations

import math

from dbp.client.job import JobHandle
from dbp.client.metrics import MAX_POINTS
from dbp.errors import InvalidInput
from dbp.plot.curves import CurveSource


def job_source(job: JobHandle) -> CurveSource:
    """Return the metrics history of a job, of all its attempts, as rows by step.

    Raises NotFound, and InvalidInput if the job has reported nothing yet.
    """
    rows: dict[int, dict[str, float]] = {}
    for name, series in job.metrics(points=MAX_POINTS).items():
        points = zip(series.step, series.epoch, series.time, series.mean, strict=True)
        for step, epoch, time, value in points:
            if math.isfinite(value):
                place = {"step": float(step), "epoch": float(epoch), "time": float(time)}
                rows.setdefault(int(step), place)[name] = float(value)
    if not rows:
        raise InvalidInput(f"{job.id}: no metrics yet: the job has reported none")
    return CurveSource(job.id, [rows[step] for step in sorted(rows)])
