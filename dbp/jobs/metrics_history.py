"""Record the metrics of jobs from the reports of their runs, in batches.

A report waits in memory until a batch is written, and is acknowledged to its run after that: a
service that is killed in between is sent it again. While the file cannot be written, reports
wait and are merged where they are too many. Training does not wait, nor do the ends of jobs for
more than two seconds.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, final

from dbp.errors import DbpError, Unavailable
from dbp.job.metric_series import PointColumns, SeriesName
from dbp.job.state import EventKind, ProgressReport
from dbp.jobs.config import Clock
from dbp.jobs.metric_query import PointRange, read_points, series_of
from dbp.jobs.metric_tables import MetricTables, NumberedReport
from dbp.jobs.report_queue import MAX_WAITING, add_all, bounded
from dbp.jobs.watch_items import Change
from dbp.storage.metrics_file import MetricsFile

# Between two batches: at most so much is written again after a kill, and synced so often.
BATCH_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 5.0
# The outcome of a run waits so long for the reports before it: the file may not answer.
OUTCOME_SECONDS: Final = 2.0

log = logging.getLogger("dbp.jobs")


@dataclass
class _Batch:
    """Reports and deletions to be written, and calls to be made after that."""

    reports: list[NumberedReport] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    stored: dict[object, Callable[[], None]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.reports or self.forgotten or self.stored)

    def before(self, later: _Batch) -> _Batch:
        """Return the batch of this one and of a later one."""
        return _Batch(
            bounded([*self.reports, *later.reports]),
            [*self.forgotten, *later.forgotten],
            self.stored | later.stored,
        )


@final
class MetricsHistory:
    """Writes the metrics history of all jobs; asyncio, one event loop."""

    def __init__(self, file: MetricsFile, clock: Clock) -> None:
        """Store the collaborators; the file is opened at its first use."""
        self.file = file
        self._clock = clock
        self._waiting = _Batch()
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._refused = ""
        self._closed = False
        self._hurried: set[asyncio.Task[None]] = set()

    def add(self, job_id: str, attempt: int, sequence: int, progress: ProgressReport) -> None:
        """Add a report to the next batch; returns immediately. Unavailable after ``close``.

        Steps that cannot be those of the report are left out, with a warning in the log.
        """
        if self._closed:  # its run sends it to the next service
            raise Unavailable("the service is shutting down; try again later")
        window = progress.window
        if window is not None and not window.is_valid(progress.step):
            log.warning(
                "job %s: a report of step %d has the losses of %d steps from step %d on; its "
                "steps are not in the metrics history",
                job_id, progress.step, window.counted, window.first_step,
            )  # fmt: skip
            progress = dataclasses.replace(progress, window=None)
        if progress.window is not None or progress.epoch_end:
            report = NumberedReport(job_id, attempt, sequence, progress)
            self._waiting.reports.append(report)
            if len(self._waiting.reports) > MAX_WAITING:  # a batch takes too long
                self._waiting.reports = bounded(self._waiting.reports)
            self._begin()

    def when_stored(self, who: object, stored: Callable[[], None]) -> None:
        """Call ``stored`` when all reports added so far are durable; at once if they are.

        It replaces an earlier call for ``who`` that is still to be made.
        """
        if not self._waiting and not self._turn.locked():
            stored()
        else:
            self._waiting.stored[who] = stored
            self._begin()

    def note(self, change: Change) -> None:
        """Forget the history of a job whose deletion is durable."""
        if change.kind is EventKind.DELETED:
            self.forget(change.job.id)

    def forget(self, job_id: str) -> None:
        """Delete the history of a job with the next batch."""
        self._waiting.reports = [r for r in self._waiting.reports if r.job_id != job_id]
        self._waiting.forgotten.append(job_id)
        self._begin()

    async def flush(self) -> None:
        """Write all that waits; a failure is logged, and a later batch tries again."""
        async with self._turn:
            batch, self._waiting = self._waiting, _Batch()
            if not batch:
                return
            try:
                if batch.reports or batch.forgotten:
                    await self._write(batch)
            except BaseException as error:
                self._waiting = batch.before(self._waiting)
                self._begin()
                if not isinstance(error, Exception):
                    raise
                self._note_failure(error)
                return
            self._refused = ""
        for stored in batch.stored.values():
            stored()

    async def hurry(self) -> None:
        """Write all that waits now; return when it is durable, but after OUTCOME_SECONDS at the
        latest: the file may be on a disk that does not answer.
        """
        if self._waiting or self._turn.locked():
            writing = asyncio.create_task(self.flush(), name="metrics history")
            self._hurried.add(writing)
            writing.add_done_callback(self._hurried.discard)
            await asyncio.wait([writing], timeout=OUTCOME_SECONDS)

    async def copy_to(self, path: Path) -> None:
        """Write one state of the history to a new file, for a backup; a failure is logged."""
        try:
            await self.file.copy_to(path)
        except DbpError as error:
            path.unlink(missing_ok=True)
            log.warning("%s: the metrics history is not in the backup: %s", path, error)

    async def sweep(self, exists: Callable[[str], Awaitable[bool]]) -> None:
        """Delete the histories of jobs that no longer exist: a kill came after the deletion."""
        try:
            found = await self.jobs()
        except DbpError as error:
            self._note_failure(error)
            return
        for job_id in found:
            if not await exists(job_id):
                self.forget(job_id)

    async def jobs(self) -> list[str]:
        """Return the ids of the jobs that have a history; DbpError."""
        nothing: list[str] = []
        return await self.file.read(lambda c: MetricTables(c).jobs(), nothing)

    async def series(self, job_ids: Sequence[str]) -> list[SeriesName]:
        """Return the series of jobs with all reports so far, in the order of the jobs.

        The reports that wait are written first, as far as that is possible. DbpError.
        """
        await self.flush()

        def query(connection: sqlite3.Connection) -> list[SeriesName]:
            return [name for job_id in job_ids for name in series_of(connection, job_id)]

        nothing: list[SeriesName] = []
        return await self.file.read(query, nothing)

    async def points(self, series: SeriesName, wanted: PointRange) -> PointColumns:
        """Return the durable points of a series in a range; DbpError."""
        return await self.file.read(lambda c: read_points(c, series, wanted), PointColumns())

    async def close(self) -> None:
        """Write all that waits, and close the file."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.flush()
        await asyncio.gather(*self._hurried)
        self.file.close()

    def _begin(self) -> None:
        if not self._closed and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._write_batches(), name="metrics history")

    async def _write_batches(self) -> None:
        """Write batch after batch until nothing waits."""
        while self._waiting:
            await self.flush()
            await self._clock.sleep(RETRY_SECONDS if self._refused else BATCH_SECONDS)

    async def _write(self, batch: _Batch) -> None:
        if not batch.reports and not self.file.exists:
            return  # there is no history to forget
        await self.file.write(partial(_apply, batch))

    def _note_failure(self, error: Exception) -> None:
        """Log a failure once, until a batch is written or another failure comes."""
        text = str(error) or type(error).__name__
        if text != self._refused:
            unforeseen = None if isinstance(error, DbpError) else error
            log.warning("the metrics history is not written: %s", text, exc_info=unforeseen)
        self._refused = text


def _apply(batch: _Batch, connection: sqlite3.Connection) -> None:
    add_all(connection, batch.reports)
    tables = MetricTables(connection)
    for job_id in dict.fromkeys(batch.forgotten):
        tables.forget(job_id)
