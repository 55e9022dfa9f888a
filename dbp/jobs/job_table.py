"""The job table: live jobs in memory; every change is durable before it is announced."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Final, TypeAlias, final

from dbp.job.state import Event, EventKind, Job, ProgressReport, State
from dbp.jobs.clock import Clock
from dbp.jobs.paging import number_of, page_size
from dbp.jobs.store import Store
from dbp.jobs.watch import EventBroadcaster, View
from dbp.jobs.watch_items import Change
from dbp.versions.index import VersionChange

PAGE_SIZE: Final = 50

# Whether a page takes one more job: called once for each, in order; must accept the first.
Fits: TypeAlias = Callable[[Job], bool]


@final
class JobTable:
    """The one place where jobs change."""

    def __init__(self, store: Store, events: EventBroadcaster, clock: Clock) -> None:
        """Store the collaborators; ``load`` reads the jobs."""
        self._store = store
        self._events = events
        self._clock = clock
        self._live: dict[str, Job] = {}

    def load(self) -> list[Job]:
        """Load the live jobs from the store; return them, oldest first."""
        jobs = self._store.live()
        self._live = {job.id: job for job in jobs}
        return jobs

    def get(self, job_id: str) -> Job:
        """Return the job with its newest progress; NotFound."""
        return self._live.get(job_id) or self._store.get(job_id)

    def page(
        self,
        states: Sequence[State],
        size: int,
        token: str,
        view: View,
        fits: Fits,
    ) -> tuple[list[Job], str]:
        """Return jobs as shown by ``view``, newest first, and the next page's token.

        The page ends before the first job that does not fit. InvalidInput.
        """
        size, before = page_size(size, PAGE_SIZE), number_of(token)
        jobs: list[Job] = []
        with closing(self._store.page(states, limit=size + 1, before=before)) as stored:
            for number, job in ((number, view(job)) for number, job in stored):
                if len(jobs) == size or not fits(job):
                    return jobs, str(before)
                jobs.append(job)
                before = number
        return jobs, ""

    def create(
        self,
        job: Job,
        *,
        request: tuple[str, str] | None = None,
        secret_hash: bytes | None = None,
    ) -> Job:
        """Add a new job; AlreadyExists if its id is taken."""
        return self._noted(self._store.create(job, request=request, secret_hash=secret_hash))

    def record(
        self,
        job_id: str,
        kind: EventKind,
        *,
        secret_hash: bytes | None = None,
        **change: Any,
    ) -> Job:
        """Apply an event to a job; return the job. WrongState: the event is not allowed."""
        event = Event(kind, self._clock.time(), change)
        return self._noted(self._store.append(self.get(job_id), event, secret_hash=secret_hash))

    def change_versions(self, job_id: str, change: VersionChange) -> None:
        """Make a change of a job's versions durable. WrongState: the job has ended."""
        if change.published is None:
            self._store.change_versions(job_id, change)
            self._events.versions.wake(job_id)
            return
        newest = {"latest_parameters": change.after.newest}
        event = Event(EventKind.PARAMETERS_PUBLISHED, change.time, newest)
        self._noted(self._store.append(self.get(job_id), event, versions=change))

    def note_progress(self, job_id: str, progress: ProgressReport) -> None:
        """Store the newest progress in memory; the job's next event makes it durable."""
        job = self._live.get(job_id)
        if job is not None:
            self._live[job_id] = dataclasses.replace(job, progress=progress)
            self._events.progress(job_id, progress)

    def _noted(self, change: Change) -> Job:
        job = change.job
        if job.state.terminal:
            self._live.pop(job.id, None)
        else:
            self._live[job.id] = job
        self._events.announce(change)
        return job
