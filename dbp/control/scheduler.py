"""Starts waiting jobs as slots become free. Who is next is ``dbp.control.queue``'s to say."""

from __future__ import annotations

from typing import Final, final

from dbp.control.ledger import Ledger
from dbp.control.observer import Observer
from dbp.control.queue import JobQueue
from dbp.control.secret import new_secret
from dbp.errors import ResourceExhausted, Unavailable
from dbp.job.state import EventKind, Job

RETRY_SECONDS: Final = 1.0


@final
class Scheduler:
    """Moves jobs from the queue to the observer."""

    def __init__(self, queue: JobQueue, ledger: Ledger, observer: Observer) -> None:
        """Use these."""
        self._queue = queue
        self._ledger = ledger
        self._observer = observer
        self._closed = False

    def enqueue(self, job: Job) -> None:
        """Let a queued job wait its turn, which may be now."""
        self._queue.push(job.id, job.workers)
        self._start_what_fits()

    def release(self, job_id: str) -> None:
        """A job has ended, queued or not: others may start."""
        self._queue.remove(job_id)
        self._start_what_fits()

    def close(self) -> None:
        """Start nothing more."""
        self._closed = True

    def _start_what_fits(self) -> None:
        while not self._closed and (job_id := self._queue.take()) is not None:
            secret, secret_hash = new_secret()
            try:
                job = self._ledger.record(job_id, EventKind.STARTED, secret_hash=secret_hash)
            except (ResourceExhausted, Unavailable):
                # Never launched before that is durable; the disk may have room again soon.
                self._queue.put_back(job_id)
                self._observer.later(RETRY_SECONDS, self._start_what_fits)
                return
            self._observer.launch(job, secret)
