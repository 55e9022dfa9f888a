"""Sets the condition Stalled on runs started by hand that are connected but do not progress.

The service sees only the reports of such a run, not its processes, and cannot end it. So the
limit is long: a run sends nothing while it evaluates, for instance.
"""

from __future__ import annotations

import asyncio
from typing import Final, final

from dbp.job.failure import ConditionKind
from dbp.job.retry_terms import stall_seconds
from dbp.jobs.config import Clock
from dbp.jobs.job_table import JobTable

LIMIT_FACTOR: Final = 10  # of stall_seconds, and of the longest time between two reports
_LOOKS: Final = 4  # per limit


@final
class SilentRuns:
    """Looks at the progress of connected runs at intervals."""

    def __init__(self, table: JobTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, job_id: str) -> None:
        """Look at the run until ``stop``."""
        self.stop(job_id)
        self._tasks[job_id] = asyncio.create_task(self._watch(job_id))

    def stop(self, job_id: str) -> None:
        """Stop looking at the run: it has ended, or is not connected."""
        task = self._tasks.pop(job_id, None)
        if task is not None:
            task.cancel()
            self._table.note_condition(job_id, ConditionKind.STALLED, None)

    async def _watch(self, job_id: str) -> None:
        job = self._table.live(job_id)
        unchanged, longest = 0, 0  # in looks
        while job is not None:
            look = LIMIT_FACTOR * stall_seconds(job.spec) / _LOOKS
            before = job.progress
            await self._clock.sleep(look)
            job = self._table.live(job_id)
            if job is None:
                return
            limit = _LOOKS + LIMIT_FACTOR * longest
            if job.progress is before:
                unchanged += 1
            else:
                longest = longest if unchanged >= limit else max(longest, unchanged)
                unchanged = 0
            message = None
            if unchanged >= limit:
                host = job.host or "its host"
                message = f"the run is connected but reports no progress; look at it on {host}"
            self._table.note_condition(job_id, ConditionKind.STALLED, message)
