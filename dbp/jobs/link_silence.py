"""Note runs whose link sends nothing: a stopped link keeps its connection open.

A condition of the job, never a reason to end it: rank 0 replaces its link.
"""

from __future__ import annotations

import asyncio
from typing import Final, final

from dbp.job.failure import ConditionKind
from dbp.jobs.config import Clock
from dbp.jobs.job_table import JobTable

# Four heartbeats of a link.
SILENCE_SECONDS: Final = 20.0
_MESSAGE: Final = (
    f"its link has sent nothing for {SILENCE_SECONDS:.0f} s: it is stopped or starting; "
    "the ranks may still train"
)


@final
class LinkSilence:
    """Notes LOST_CONTACT for runs that connected once; removes it when they report again."""

    def __init__(self, table: JobTable, clock: Clock) -> None:
        """Store the collaborators; ``clock`` does not count while the host sleeps."""
        self._table = table
        self._clock = clock
        self._heard: dict[str, int] = {}  # messages by job
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def heard(self, job_id: str) -> None:
        """Note a message of a live run; the first one starts the watch of this job."""
        job = self._table.live(job_id)
        if job is None or not job.state.launched:  # a late one: the attempt has ended
            return
        self._heard[job_id] = self._heard.get(job_id, 0) + 1
        self._table.note_condition(job_id, ConditionKind.LOST_CONTACT, None)
        if job_id not in self._tasks:
            self._tasks[job_id] = asyncio.create_task(self._watch(job_id))

    def end(self, job_id: str) -> None:
        """Stop the watch of an attempt that has ended."""
        self._heard.pop(job_id, None)
        task = self._tasks.pop(job_id, None)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """Stop the watches of all jobs."""
        for job_id in list(self._tasks):
            self.end(job_id)

    async def _watch(self, job_id: str) -> None:
        while True:
            before = self._heard[job_id]
            await self._clock.sleep(SILENCE_SECONDS)
            job = self._table.live(job_id)
            if self._heard[job_id] > before or job is None or not job.state.launched:
                continue
            if all(known.kind is not ConditionKind.LOST_CONTACT for known in job.conditions):
                self._table.note_condition(job_id, ConditionKind.LOST_CONTACT, _MESSAGE)
