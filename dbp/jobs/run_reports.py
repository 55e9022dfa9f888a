"""Take the reports of runs: their progress, with the metrics history, and their outcomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from dbp.job.state import ProgressReport, RunOutcome
from dbp.jobs.disk_wait import DiskWait
from dbp.jobs.job_table import JobTable
from dbp.jobs.metrics_history import MetricsHistory
from dbp.jobs.store import Store


@final
class RunReports:
    """Stores what runs report."""

    def __init__(
        self,
        store: Store,
        table: JobTable,
        history: MetricsHistory,
        disk: DiskWait,
        settle: Callable[[str], None],
    ) -> None:
        """``settle`` ends a job, by its id, whose run has reported its outcome."""
        self._store = store
        self._table = table
        self._disk = disk
        self._settle = settle
        self.history = history
        table.notice(history.note)

    async def progress(
        self, job_id: str, attempt: int, progress: ProgressReport, sequence: int = 0
    ) -> None:
        """Store the newest progress, which the job's next event makes durable.

        The report of this number within the attempt enters the metrics history, which is
        durable when ``history.when_stored`` says so; 0: it does not enter it.
        """
        await self._table.get(job_id, attempt)
        if sequence:
            self.history.add(job_id, attempt, sequence, progress)
        self._table.note_progress(job_id, progress)
        self._disk.note_report(job_id, progress)

    async def outcome(self, job_id: str, attempt: int, outcome: RunOutcome) -> None:
        """Store the outcome that the run reported; durable on return, as are the reports
        before it unless the metrics history cannot be written.
        """
        await self.history.hurry()

        async def store() -> None:
            job = await self._table.get(job_id, attempt)
            await self._store.set_outcome(job_id, attempt, outcome)
            if job.attached:
                self._settle(job_id)

        await self._table.alone(store)
