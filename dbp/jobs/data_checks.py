"""Check the data of acknowledged jobs while they wait in the queue (condition CHECKING).

The job row says that the check is open, so that a restarted service makes it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, final

from dbp.errors import DbpError, InvalidInput, Unavailable, WrongState
from dbp.job.failure import ConditionKind, Failure, FailureReason, shortened
from dbp.job.state import EventKind, Job, State
from dbp.jobs.checks import CheckApart, Checked, CheckFailedError, CheckRequest
from dbp.jobs.job_table import JobTable
from dbp.jobs.watch_items import Change

log = logging.getLogger("dbp.jobs")

# Longer checks are left to the ranks, which check their data, too.
SECONDS: Final = 3600.0
MEMORY_BYTES: Final = 8 * 2**30

TEXT: Final = "its data are being checked"


@final
class DataChecks:
    """Runs the open checks; a job leaves ``CHECKING`` for the queue, or fails."""

    def __init__(
        self,
        table: JobTable,
        apart: CheckApart,
        *,
        checked: Callable[[str, Checked | None], Awaitable[None]],
        failed: Callable[[str], Awaitable[None]],
    ) -> None:
        """``checked`` and ``failed`` are called with a job's id, alone in the table;
        ``checked`` with the result, None if there is none.
        """
        self._table = table
        self._apart = apart
        self._checked = checked
        self._failed = failed
        self._tasks: dict[str, asyncio.Task[None]] = {}
        table.notice(self._noticed)

    def begin(self, job: Job) -> None:
        """Check the data of a queued job, unless that is under way."""
        if job.id in self._tasks:
            return
        self._table.note_condition(job.id, ConditionKind.CHECKING, TEXT)
        task = asyncio.create_task(self._run(job))
        self._tasks[job.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.id, None))

    async def close(self) -> None:
        """Stop all checks; they begin again with the next service."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _noticed(self, change: Change) -> None:
        """Stop the check of a job that was cancelled or paused."""
        if change.job.state is not State.QUEUED and change.job.id in self._tasks:
            self._tasks[change.job.id].cancel()

    async def _run(self, job: Job) -> None:
        request = CheckRequest(
            job.spec, job.workers, job.owner, whole=True, seconds=SECONDS,
            memory_bytes=MEMORY_BYTES, confined=job.confined,
        )  # fmt: skip
        error: DbpError | None = None
        found: Checked | None = None
        try:
            found = await self._apart(request)
        except CheckFailedError as failure:
            log.warning("job %s: %s; the run checks its data itself", job.id, failure)
        except Unavailable:
            return  # the service ends
        except (InvalidInput, WrongState) as refused:
            error = refused
        except DbpError as refused:
            log.warning("job %s: its data were not checked: %s", job.id, refused)
        await self._table.alone(lambda: self._settle(job.id, error, found))

    async def _settle(self, job_id: str, error: DbpError | None, found: Checked | None) -> None:
        job = self._table.live(job_id)
        if job is None or job.state is not State.QUEUED:
            return
        self._tasks.pop(job_id, None)  # the change below must not cancel this task
        self._table.note_condition(job_id, ConditionKind.CHECKING, None)
        if error is None:
            await self._checked(job_id, found)
            return
        failure = Failure(FailureReason.INVALID_DATA, shortened(str(error)))
        await self._table.record(job_id, EventKind.FAILED, failure=failure)
        await self._failed(job_id)
