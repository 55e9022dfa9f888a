"""Read the metrics history: the series of jobs, and points of a range, merged to a number.

The points are merged in SQL, on the thread of the metrics file, so that a long history does not
hold up the event loop: each point of the answer is over an equal share of the steps, and keeps
mean, extremes and last value of the points in it, all that a chart of that width shows (M4).
"""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from dbp.job.metric_series import PointColumns, SeriesKind, SeriesName
from dbp.jobs.metric_tables import LAST_STEP

# A mean is multiplied by this before it is summed: the sum of large losses stays finite.
_SCALE: Final = 2.0**-80

_IN_RANGE: Final = """
WITH wanted AS MATERIALIZED (
  SELECT step, first_step, epoch, time, counted, last, retaken,
    CASE WHEN counted THEN coalesce(mean, last) END AS mean,
    CASE WHEN counted THEN coalesce(minimum, last) END AS minimum,
    CASE WHEN counted THEN coalesce(maximum, last) END AS maximum
  FROM points
  WHERE series = (SELECT id FROM series WHERE job = :job AND name = :name AND kind = :kind)
    AND step >= :first_step AND first_step <= :last_step AND time BETWEEN :start AND :end
)"""
_ALL: Final = (
    _IN_RANGE
    + """
SELECT step, first_step, epoch, time, counted, mean, minimum, maximum, last, retaken
FROM wanted ORDER BY step LIMIT :points + 1"""
)
# The share of a point is that of its last step; the point of the answer ends with the last one.
_MERGED: Final = (
    _IN_RANGE  # noqa: S608 (fixed words)
    + """,
ends AS (SELECT min(step) AS low, max(step) - min(step) + 1.0 AS steps FROM wanted),
shares AS (
  SELECT max(step) AS step, min(first_step) AS first_step, sum(counted) AS counted,
    sum(mean * :scale * counted) / sum(counted) / :scale AS mean,
    min(minimum) AS minimum, max(maximum) AS maximum, max(retaken) AS retaken
  FROM wanted, ends
  GROUP BY min(CAST((step - low) / steps * :points AS INTEGER), :points - 1)
)
SELECT s.step, s.first_step, w.epoch, w.time, s.counted,
  max(s.minimum, min(s.maximum, s.mean)), s.minimum, s.maximum, w.last, s.retaken
FROM shares AS s JOIN wanted AS w ON w.step = s.step ORDER BY s.step"""
)


@dataclass(frozen=True)
class PointRange:
    """Points to read: those with steps and a time in the range, merged to ``points`` at most.

    A point is in the range if any of its steps is, and its report came from ``start_time`` to
    ``end_time`` (Unix seconds).
    """

    first_step: int = 0
    last_step: int = LAST_STEP
    start_time: float = -math.inf
    end_time: float = math.inf
    points: int = 1_000


def series_of(connection: sqlite3.Connection, job_id: str) -> list[SeriesName]:
    """Return the series of a job, in the order in which they came."""
    rows = connection.execute(
        "SELECT name, kind FROM series WHERE job = ? ORDER BY id", (job_id,)
    )
    return [SeriesName(job_id, name, SeriesKind(kind)) for name, kind in rows]


def read_points(
    connection: sqlite3.Connection, series: SeriesName, wanted: PointRange
) -> PointColumns:
    """Return the points of a series in a range; no points of one that is not there."""
    values: dict[str, object] = {
        "job": series.job_id, "name": series.name, "kind": series.kind,
        "first_step": wanted.first_step, "last_step": wanted.last_step,
        "start": wanted.start_time, "end": wanted.end_time,
        "points": wanted.points, "scale": _SCALE,
    }  # fmt: skip
    rows = connection.execute(_ALL, values).fetchall()
    if len(rows) > wanted.points:
        rows = connection.execute(_MERGED, values).fetchall()
    return _columns(rows)


def _columns(rows: list[tuple[Any, ...]]) -> PointColumns:
    if not rows:
        return PointColumns()
    step, first, epoch, time, counted, *figures, retaken = zip(*rows, strict=True)
    known = [tuple(math.nan if v is None else v for v in column) for column in figures]
    mean, minimum, maximum, last = known
    return PointColumns(
        step, first, epoch, time, counted, mean, minimum, maximum, last,
        tuple(map(bool, retaken)),
    )  # fmt: skip
