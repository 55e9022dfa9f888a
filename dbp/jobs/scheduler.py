"""Start waiting jobs as slots become free, in the order of the queue."""

from __future__ import annotations

from typing import Final, final

from dbp.errors import ResourceExhausted, Unavailable
from dbp.job.state import EventKind, Job
from dbp.jobs.attempt_runner import AttemptRunner
from dbp.jobs.job_table import JobTable
from dbp.jobs.queue import JobQueue
from dbp.jobs.secret import new_secret

RETRY_SECONDS: Final = 1.0


@final
class Scheduler:
    """Moves jobs from the queue to the runner of attempts."""

    def __init__(self, queue: JobQueue, table: JobTable, runner: AttemptRunner) -> None:
        """Start jobs of this queue through this runner."""
        self._queue = queue
        self._table = table
        self._runner = runner
        self._closed = False

    async def enqueue(self, job: Job) -> None:
        """Add a queued job, and start what fits.

        Call it, like ``release``, alone in the table, together with the change of the job.
        """
        self._queue.push(job.id, job.workers)
        await self._start()

    async def release(self, job_id: str) -> None:
        """Remove an ended job, and start what fits now."""
        self._queue.remove(job_id)
        await self._start()

    def close(self) -> None:
        """Start no more jobs."""
        self._closed = True

    async def _start_what_fits(self) -> None:
        await self._table.alone(self._start)

    async def _start(self) -> None:
        while not self._closed and (job_id := self._queue.take()) is not None:
            secret, secret_hash = new_secret()
            try:
                job = await self._table.record(
                    job_id, EventKind.STARTED, secret_hash=secret_hash
                )
            except (ResourceExhausted, Unavailable):
                # Launch only after the record is durable; the disk may have space again soon.
                self._queue.put_back(job_id)
                self._runner.later(RETRY_SECONDS, self._start_what_fits)
                return
            if not self._closed:  # else the next service finds it not launched, and does so
                self._runner.launch(job, secret)
