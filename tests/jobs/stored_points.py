"""The points that a metrics file holds of one series, unmerged, for tests."""

from __future__ import annotations

import dataclasses
import sqlite3

from dbp.job.metric_series import PointColumns, SeriesKind, SeriesName
from dbp.jobs.metric_points import MetricPoint
from dbp.jobs.metric_query import PointRange, read_points
from dbp.jobs.metric_tables import LAST_STEP

ALL = 10**6


def stored_points(
    connection: sqlite3.Connection,
    job_id: str,
    name: str = "loss",
    kind: SeriesKind = SeriesKind.STEPS,
    *,
    first_step: int = 0,
    last_step: int = LAST_STEP,
) -> list[MetricPoint]:
    """Return the points with steps in the range, oldest first."""
    wanted = PointRange(first_step, last_step, points=ALL)
    return as_points(read_points(connection, SeriesName(job_id, name, kind), wanted))


def as_points(columns: PointColumns) -> list[MetricPoint]:
    """Return a point for each row of the columns."""
    fields = [getattr(columns, field.name) for field in dataclasses.fields(PointColumns)]
    return [MetricPoint(*row) for row in zip(*fields, strict=True)]
