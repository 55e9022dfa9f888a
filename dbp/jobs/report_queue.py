"""Reports that wait for the metrics history: bounded while its file cannot be written."""

from __future__ import annotations

import dataclasses
import logging
import sqlite3
from collections.abc import Sequence
from typing import Final

from dbp.errors import DbpError
from dbp.jobs.metric_tables import MetricTables, NumberedReport

# Reports of all jobs that wait; beyond these they are merged, which takes some 50 ms.
MAX_WAITING: Final = 20_000

log = logging.getLogger("dbp.jobs")


def bounded(reports: list[NumberedReport]) -> list[NumberedReport]:
    """Return at most MAX_WAITING reports with the same steps, if there are more.

    Neighbouring reports of a job are merged in pairs. Where that is not enough, as with ends of
    epochs, the oldest are dropped, with a warning in the log.
    """
    if len(reports) <= MAX_WAITING:
        return reports
    kept = _paired(reports)
    if len(kept) > MAX_WAITING:
        dropped = len(kept) - MAX_WAITING // 2  # more at once than are needed, but seldom
        log.warning(
            "the metrics history is not written: %d reports, from one of job %s on, are lost",
            dropped, kept[0].job_id,
        )  # fmt: skip
        kept = kept[dropped:]
    return kept


def _paired(reports: Sequence[NumberedReport]) -> list[NumberedReport]:
    kept: list[NumberedReport | None] = []
    places: dict[str, int] = {}  # by job, of its newest report that is not merged
    for report in reports:
        place = places.pop(report.job_id, None)
        older = kept[place] if place is not None else None
        merged = _merged(older, report) if older is not None else None
        if merged is None:
            places[report.job_id] = len(kept)
        elif place is not None:
            kept[place] = None
        kept.append(merged or report)
    return [report for report in kept if report is not None]


def _merged(older: NumberedReport, newer: NumberedReport) -> NumberedReport | None:
    """Return the newer report with the steps of both; None if they do not follow, or the older
    one ends an epoch.
    """
    before, after = older.progress.window, newer.progress.window
    if older.progress.epoch_end or older.attempt != newer.attempt:
        return None
    if before is None or after is None or not before.precedes(after, older.progress.step):
        return None
    progress = dataclasses.replace(newer.progress, window=before.joined(after))
    return dataclasses.replace(newer, progress=progress)


def add_all(connection: sqlite3.Connection, reports: Sequence[NumberedReport]) -> None:
    """Insert reports. One that cannot be inserted, whatever the state of the file, is left out
    with a warning in the log: those after it must not wait for it.
    """
    tables = MetricTables(connection)
    for report in reports:
        connection.execute("SAVEPOINT report")
        try:
            tables.add(report)
        except Exception as error:
            if _is_of_file(error):
                raise
            connection.execute("ROLLBACK TO report")
            tables = MetricTables(connection)  # series that it made are gone
            log.warning(
                "job %s: the report of step %d is not in the metrics history: %s: %s",
                report.job_id, report.progress.step, type(error).__name__, error,
            )  # fmt: skip
        connection.execute("RELEASE report")


def _is_of_file(error: Exception) -> bool:
    """Return whether an error is one of the file or of the machine, not of a report."""
    if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError):
        return False
    return isinstance(error, DbpError | OSError | MemoryError | sqlite3.Error)
