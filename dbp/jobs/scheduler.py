"""Start waiting jobs as slots become free, first in, first out.

A job whose attempt failed keeps its place: it waits before all jobs that were acknowledged
after it. While it waits for the time of its next launch it holds no slots, and jobs after it
may start. A job that a user resumes or retries comes last. A restart keeps the order.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final, final

from dbp.errors import ResourceExhausted, Unavailable
from dbp.job.state import EventKind, Job
from dbp.jobs.attempt_runner import AttemptRunner
from dbp.jobs.checks import CheckApart, Checked, cannot_check
from dbp.jobs.config import Clock
from dbp.jobs.connections import new_secret
from dbp.jobs.data_checks import DataChecks
from dbp.jobs.job_queue import Delay, JobQueue
from dbp.jobs.job_table import JobChange, JobTable
from dbp.jobs.retry import MAX_BACKOFF_SECONDS

RETRY_SECONDS: Final = 1.0


@final
class Scheduler:
    """Moves jobs from the queue to the runner of attempts."""

    def __init__(
        self,
        queue: JobQueue,
        table: JobTable,
        runner: AttemptRunner,
        clock: Clock,
        check_apart: CheckApart = cannot_check,
    ) -> None:
        """Start jobs of this queue through this runner; check the data of some before."""
        self._checks = DataChecks(
            table, check_apart, checked=self._checked, failed=self.release
        )
        self._found: dict[str, JobChange] = {}  # of checks, until the job starts
        self._clock = clock
        self._queue = queue
        self._table = table
        self._runner = runner
        self._closed = False

    async def enqueue(self, job: Job) -> None:
        """Add a queued job, free the slots that it held, and start the jobs that fit.

        Call it, like ``release``, alone in the table, together with the change of the job.
        """
        self._push(job)
        await self._start()

    def _push(self, job: Job) -> None:
        self._queue.push(job.id, job.workers, self._delay(job))
        if job.unchecked:
            self._queue.begin_check(job.id)
            self._checks.begin(job)

    async def _checked(self, job_id: str, found: Checked | None) -> None:
        """Start a job whose data are checked when it fits; call it alone in the table.

        ``found``: the result, which is stored when the job starts.
        """
        self._queue.end_check(job_id)
        if found is not None:
            self._found[job_id] = {"notes": found.notes, "data_digest": found.data_digest}
        await self._start()

    async def load(self, jobs: Iterable[Job]) -> None:
        """Add the queued jobs of an earlier service, then start what fits; alone in the table.

        The queue is looked through once, not once for each job: all may be too large.
        """
        for job in jobs:
            self._push(job)
        await self._start()

    def _delay(self, job: Job) -> Delay | None:
        """Return the wait for a job's next attempt; let the job start at its end.

        The time is stored with the job: a restart neither shortens the wait nor begins it
        again, and a step of the clock cannot make it longer than the longest backoff.
        """
        if job.retry_time is None:
            return None
        seconds = min(job.retry_time - self._clock.time(), MAX_BACKOFF_SECONDS)
        if seconds <= 0:
            return None
        delay = Delay(job.attempt + 1, self._clock.time() + seconds)
        self._runner.later(seconds, partial(self._after_delay, job.id, delay))
        return delay

    async def _after_delay(self, job_id: str, delay: Delay) -> None:
        self._queue.end_delay(job_id, delay)
        await self.start_what_fits()

    async def release(self, job_id: str) -> None:
        """Remove an ended job, and start what fits now."""
        self._queue.remove(job_id)
        await self._start()

    def close(self) -> None:
        """Start no more jobs."""
        self._closed = True

    async def end_checks(self) -> None:
        """Stop checking data; the next service begins again."""
        await self._checks.close()

    @property
    def _stopped(self) -> bool:
        return self._closed or self._runner.drain.active

    async def start_what_fits(self) -> None:
        """Start the jobs that fit; a drain may have ended."""
        await self._table.alone(self._start)

    async def _start(self) -> None:
        while not self._stopped and (job_id := self._queue.take()) is not None:
            secret, secret_hash = new_secret()
            try:
                job = await self._table.record(
                    job_id,
                    EventKind.STARTED,
                    secret_hash=secret_hash,
                    **self._found.get(job_id, {}),
                )
            except (ResourceExhausted, Unavailable):
                # Launch only after the record is durable; the disk may have space again soon.
                self._queue.put_back(job_id)
                self._runner.later(RETRY_SECONDS, self.start_what_fits)
                return
            if not self._closed:  # else the next service finds it not launched, and does so
                self._runner.launch(job, secret)
