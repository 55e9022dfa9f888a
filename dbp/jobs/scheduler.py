"""Start waiting jobs as slots become free, first in, first out."""

from __future__ import annotations

from typing import Final, final

from dbp.errors import ResourceExhausted, Unavailable
from dbp.job.state import EventKind, Job
from dbp.jobs.attempt_runner import AttemptRunner
from dbp.jobs.connections import new_secret
from dbp.jobs.job_table import JobTable
from dbp.quantities import count_text

RETRY_SECONDS: Final = 1.0


@final
class JobQueue:
    """Jobs in the order of their acknowledgement; a slot is one MPI process.

    Strict order: all jobs wait until the first one fits, so that a large job is not starved.
    Only a job larger than all slots is passed over.
    """

    def __init__(self, slots: int, max_queued: int) -> None:
        """Make an empty queue.

        Args:
            slots: processes at a time.
            max_queued: jobs that may wait.
        """
        self.slots = slots
        self.max_queued = max_queued
        self._waiting: dict[str, int] = {}
        self._holding: dict[str, int] = {}
        self._positions: dict[str, int] | None = None

    @property
    def free(self) -> int:
        """Number of slots that no job holds."""
        return self.slots - sum(self._holding.values())

    def check_length(self) -> None:
        """Raise ResourceExhausted if the queue is full."""
        if len(self._waiting) >= self.max_queued:
            raise ResourceExhausted(
                f"the queue is full: {count_text(len(self._waiting), 'job')} in it, as many as "
                "are allowed; try again later"
            )

    def push(self, job_id: str, workers: int) -> None:
        """Append a job to the queue."""
        self._waiting[job_id] = workers
        self._positions = None

    def hold(self, job_id: str, workers: int) -> None:
        """Give slots to a job that is running already."""
        self._holding[job_id] = workers

    def take(self) -> str | None:
        """Return the next job that may start and give it its slots; None if there is none."""
        for job_id, workers in self._waiting.items():
            if workers > self.slots:
                continue
            if workers > self.free:
                return None
            self._leave(job_id)
            self._holding[job_id] = workers
            return job_id
        return None

    def put_back(self, job_id: str) -> None:
        """Put the job that was taken last back to the front."""
        self._waiting = {job_id: self._holding.pop(job_id), **self._waiting}
        self._positions = None

    def remove(self, job_id: str) -> None:
        """Remove a job and free its slots."""
        self._leave(job_id)
        self._holding.pop(job_id, None)

    def waiting_reason(self, job_id: str) -> str:
        """Return why the job waits, for users; "" if it does not."""
        workers = self._waiting.get(job_id)
        if workers is None:
            return ""
        if workers > self.slots:
            return (
                f"needs {count_text(workers, 'slot')}, this service has {self.slots}: "
                "cancel it, or restart the service with more"
            )
        if self._positions is None:
            self._positions = {name: place for place, name in enumerate(self._waiting, 1)}
        place = self._positions[job_id]
        return (
            f"needs {count_text(workers, 'slot')}, {self.free} free; {_ordinal(place)} in "
            "the queue"
        )

    def _leave(self, job_id: str) -> None:
        if self._waiting.pop(job_id, None) is not None:
            self._positions = None


def _ordinal(place: int) -> str:
    teen = 10 <= place % 100 <= 20
    return f"{place}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(place % 10, 'th')}"


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
