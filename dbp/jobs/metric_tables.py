"""SQL for the metrics history; ``MetricsHistory`` opens the transactions.

Points thin with age. A new point is of level 0; where a level has more points than it keeps,
its oldest half is merged in pairs into points of the next level. So the points of a metric grow
with the logarithm of the reports, and the steps of a point with its age: a million steps in
200,000 reports take 1.4 MB (three metrics, 72 bytes a point), ten times as many about 1.9 MB.
"""

from __future__ import annotations

import dataclasses
import math
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, final

from dbp.job.metric_series import SeriesKind
from dbp.job.state import ProgressReport
from dbp.jobs.metric_points import MAX_NAMES, MetricPoint, merged, points_of

# Points that a level keeps. Ends of epochs thin only above 100,000.
KEPT: Final = {SeriesKind.STEPS: 1_024, SeriesKind.EPOCHS: 100_000}
# Points that are merged at once, at most: half as many as a level keeps.
MERGED: Final = 512
LAST_STEP: Final = 2**62

_COLUMNS: Final = (
    "step, first_step, epoch, time, counted, mean, minimum, maximum, last, retaken"
)


@dataclass(frozen=True)
class NumberedReport:
    """A report of an attempt of a job, by its number within the attempt."""

    job_id: str
    attempt: int
    sequence: int
    progress: ProgressReport


@dataclass(frozen=True)
class _Place:
    """Newest report and step in the history of a job.

    ``run_attempt`` and ``rollbacks`` belong to the newest steps. Steps up to ``retaken_until``
    had been taken before.
    """

    attempt: int = 0
    sequence: int = 0
    run_attempt: int = 0
    rollbacks: int = 0
    step: int = 0
    retaken_until: int = 0


@final
class MetricTables:
    """Series and points, on the connection of the metrics file, within one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[tuple[str, str, SeriesKind], int] = {}

    def add(self, report: NumberedReport) -> bool:
        """Insert the points of a report; return False for one that was inserted before.

        Steps that the history has already are replaced: those of an earlier attempt or before
        a roll-back, and those of a report that was sent again with more steps.
        """
        place = self._place(report.job_id)
        if (report.attempt, report.sequence) <= (place.attempt, place.sequence):
            return False
        place = dataclasses.replace(place, attempt=report.attempt, sequence=report.sequence)
        progress, job_id = report.progress, report.job_id
        if progress.window is not None:
            place = self._rewind(job_id, place, report.attempt, progress)
        for kind, name, point in points_of(progress):
            series = self._series(job_id, name, kind)
            if series is not None:
                retaken = point.first_step <= place.retaken_until
                self._insert(series, kind, dataclasses.replace(point, retaken=retaken))
        self._set_place(job_id, place)
        return True

    def forget(self, job_id: str) -> None:
        """Delete the history of a job."""
        self._known.clear()
        ids = [(series,) for series in self._ids(job_id)]
        for table in ("points", "levels"):
            self._connection.executemany(f"DELETE FROM {table} WHERE series = ?", ids)  # noqa: S608 (fixed words)
        self._connection.execute("DELETE FROM series WHERE job = ?", (job_id,))
        self._connection.execute("DELETE FROM progress WHERE job = ?", (job_id,))

    def jobs(self) -> list[str]:
        """Return the ids of the jobs that have a history."""
        return [job for (job,) in self._connection.execute("SELECT job FROM progress")]

    # Inside

    def _rewind(
        self, job_id: str, place: _Place, attempt: int, progress: ProgressReport
    ) -> _Place:
        """Remove the steps that the report's window takes again; return the new place."""
        window = progress.window
        assert window is not None  # noqa: S101 (the caller's condition)
        first, run = window.first_step, (attempt, window.rollbacks)
        if run != (place.run_attempt, place.rollbacks):
            kinds = tuple(SeriesKind)
            until = max(place.retaken_until, place.step if first <= place.step else 0)
        else:
            kinds, until = (SeriesKind.STEPS,), place.retaken_until
        if first <= place.step:
            for series in self._ids(job_id, kinds):
                self._cut(series, first)
        return dataclasses.replace(
            place, run_attempt=run[0], rollbacks=run[1], step=progress.step,
            retaken_until=until,
        )  # fmt: skip

    def _cut(self, series: int, first: int) -> None:
        """Remove the points of a series from this step on; one that covers earlier steps too
        keeps its figures, as of the earlier steps alone, and ends before.
        """
        key = (series, first)
        self._connection.execute(
            "UPDATE levels SET points = points - (SELECT count(*) FROM points "
            "WHERE points.series = levels.series AND points.level = levels.level "
            "AND step >= ?2 AND first_step >= ?2) WHERE series = ?1",
            key,
        )
        self._connection.execute(
            "DELETE FROM points WHERE series = ?1 AND step >= ?2 AND first_step >= ?2", key
        )
        self._connection.execute(
            "UPDATE points SET step = ?2 - 1, retaken = 1, "
            "counted = min(counted, ?2 - first_step) WHERE series = ?1 AND step >= ?2",
            key,
        )

    def _insert(self, series: int, kind: SeriesKind, point: MetricPoint) -> None:
        if kind is SeriesKind.EPOCHS:  # steps that are taken again have been cut
            present = self._connection.execute(
                "SELECT level, step, first_step FROM points WHERE series = ?1 AND step >= ?2 "
                "AND first_step <= ?2",
                (series, point.step),
            ).fetchone()
            if present is not None:  # the end of an epoch is reported again
                level, step, first = present
                if step != first:
                    return  # it is merged with others already
                self._add_to_level(series, level, -1)
        if self._put(series, 0, point) > KEPT[kind]:
            self._thin(series, kind)

    def _thin(self, series: int, kind: SeriesKind) -> None:
        """Merge the oldest points of each level that has too many."""
        level, points_of_level = 0, KEPT[kind] + 1
        while points_of_level > KEPT[kind]:
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM points WHERE series = ? AND level = ? "  # noqa: S608 (fixed words)
                "ORDER BY step LIMIT ?",
                (series, level, min(MERGED, KEPT[kind] // 2)),
            ).fetchall()
            points = [_point(row) for row in rows]
            self._connection.executemany(
                "DELETE FROM points WHERE series = ? AND step = ?",
                [(series, point.step) for point in points],
            )
            self._add_to_level(series, level, -len(points))
            for older, newer in zip(points[::2], points[1::2], strict=True):
                points_of_level = self._put(series, level + 1, merged(older, newer))
            level += 1

    def _put(self, series: int, level: int, point: MetricPoint) -> int:
        """Insert a point; return how many the level has now."""
        figures: tuple[float | None, ...] = (point.mean, point.minimum, point.maximum)
        if all(figure == point.last for figure in figures):
            figures = (None, None, None)  # most are those of one value
        self._connection.execute(
            f"INSERT OR REPLACE INTO points (series, level, {_COLUMNS}) "  # noqa: S608 (fixed words)
            "VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                series, level, point.step, point.first_step, point.epoch, point.time,
                point.counted, *figures, point.last, point.retaken,
            ),
        )  # fmt: skip
        return self._add_to_level(series, level, 1)

    def _add_to_level(self, series: int, level: int, points: int) -> int:
        (count,) = self._connection.execute(
            "INSERT INTO levels (series, level, points) VALUES (?1, ?2, ?3) "
            "ON CONFLICT (series, level) DO UPDATE SET points = points + ?3 RETURNING points",
            (series, level, points),
        ).fetchone()
        return int(count)

    def _ids(self, job_id: str, kinds: Iterable[SeriesKind] = SeriesKind) -> list[int]:
        rows = self._connection.execute("SELECT id, kind FROM series WHERE job = ?", (job_id,))
        return [series for series, kind in rows if kind in tuple(kinds)]

    def _series(self, job_id: str, name: str, kind: SeriesKind) -> int | None:
        """Return the id of a series, made if absent; None if the job has too many."""
        key = (job_id, name, kind)
        if key not in self._known:
            made = self._stored_series(key)
            if made is None:
                return None
            self._known[key] = made
        return self._known[key]

    def _stored_series(self, key: tuple[str, str, SeriesKind]) -> int | None:
        found = self._connection.execute(
            "SELECT id FROM series WHERE job = ? AND name = ? AND kind = ?", key
        ).fetchone()
        if found is not None:
            return int(found[0])
        if len(self._ids(key[0])) >= MAX_NAMES:
            return None
        return self._connection.execute(
            "INSERT INTO series (job, name, kind) VALUES (?,?,?)", key
        ).lastrowid

    def _place(self, job_id: str) -> _Place:
        row = self._connection.execute(
            "SELECT attempt, sequence, run_attempt, rollbacks, step, retaken_until "
            "FROM progress WHERE job = ?",
            (job_id,),
        ).fetchone()
        return _Place() if row is None else _Place(*row)

    def _set_place(self, job_id: str, place: _Place) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO progress (job, attempt, sequence, run_attempt, rollbacks, "
            "step, retaken_until) VALUES (?,?,?,?,?,?,?)",
            (job_id, *dataclasses.astuple(place)),
        )


def _point(row: tuple[Any, ...]) -> MetricPoint:
    step, first, epoch, time, counted, mean, minimum, maximum, last, retaken = row
    last = math.nan if last is None else last
    if mean is None:
        mean = minimum = maximum = last if counted else math.nan
    return MetricPoint(
        step, first, epoch, time, counted, mean, minimum, maximum, last, bool(retaken)
    )
