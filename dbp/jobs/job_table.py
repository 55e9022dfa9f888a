"""The job table: live jobs in memory; every change is durable before it is announced."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Sequence
from typing import Final, TypeAlias, TypedDict, TypeVar, Unpack, final

from dbp.errors import WrongState
from dbp.job.best import BestEpoch
from dbp.job.failure import Condition, ConditionKind, Failure
from dbp.job.state import Event, EventKind, Job, ProgressReport, State
from dbp.jobs.config import Clock
from dbp.jobs.paging import number_of, page_size
from dbp.jobs.store import Store
from dbp.jobs.watch import EventBroadcaster, View
from dbp.jobs.watch_items import Change
from dbp.storage.threads import to_its_end
from dbp.versions.index import VersionChange

PAGE_SIZE: Final = 50

T = TypeVar("T")


class JobChange(TypedDict, total=False):
    """Fields of a job that an event sets, besides its state and times."""

    host: str
    failure: Failure | None
    progress: ProgressReport | None
    best: BestEpoch | None
    best_restored: bool
    end_reason: str
    previous_failure: Failure | None
    failures: int
    exceptions: tuple[str, ...]
    checkpoint_step: int
    retry_time: float | None
    notes: tuple[str, ...]
    data_digest: str


# Whether a page takes one more job: called once for each, in order; must accept the first.
Fits: TypeAlias = Callable[[Job], bool]


@final
class JobTable:
    """The one place where jobs change, one change after the other.

    A change is committed, then noted in memory, then announced. A caller that is cancelled
    meanwhile waits for all three.
    """

    def __init__(self, store: Store, events: EventBroadcaster, clock: Clock) -> None:
        """Store the collaborators; ``load`` reads the jobs."""
        self._store = store
        self._events = events
        self._clock = clock
        self._live: dict[str, Job] = {}
        self._noticing: list[Callable[[Change], None]] = []
        self._turn = asyncio.Lock()
        self._holder: asyncio.Task[object] | None = None

    def notice(self, changed: Callable[[Change], None]) -> None:
        """Call ``changed`` with each committed change, before it is announced."""
        self._noticing.append(changed)

    async def load(self) -> list[Job]:
        """Load the live jobs from the store; return them as ``Store.live``."""
        jobs = await self._store.live()
        self._live = {job.id: job for job in jobs}
        await self._events.load()
        return jobs

    def count_of(self, owner: str) -> int:
        """Return how many jobs of an owner wait or run."""
        return sum(job.owner == owner for job in self._live.values())

    def live(self, job_id: str) -> Job | None:
        """Return a live job with its newest progress; None if it has ended or is unknown."""
        return self._live.get(job_id)

    async def get(self, job_id: str, attempt: int | None = None) -> Job:
        """Return the job with its newest progress; a live one without waiting.

        Raises:
            JobNotFound: there is no such job.
            WrongState: it is at another attempt than ``attempt``, if one is given.
        """
        job = self._live.get(job_id) or await self._store.get(job_id)
        if attempt not in (None, job.attempt):
            raise WrongState(f"job {job_id} is at attempt {job.attempt}, not {attempt}")
        return job

    async def page(
        self,
        states: Sequence[State],
        size: int,
        token: str,
        view: View,
        fits: Fits,
        *,
        wanted: Fits = lambda _: True,
    ) -> tuple[list[Job], str]:
        """Return jobs as shown by ``view``, newest first, and the next page's token.

        Jobs that are not ``wanted`` are left out. The page ends before the first job that does
        not fit. InvalidInput.
        """
        size, before = page_size(size, PAGE_SIZE), number_of(token)
        jobs: list[Job] = []
        while stored := await self._store.page(
            states, limit=size + 1 - len(jobs), before=before
        ):
            for number, job in stored:
                if not wanted(job):
                    before = number
                    continue
                shown = view(job)
                if len(jobs) == size or not fits(shown):
                    return jobs, str(before)
                jobs.append(shown)
                before = number
        return jobs, ""

    async def alone(self, work: Callable[[], Coroutine[object, None, T]]) -> T:
        """Run ``work`` with no other change of a job in between, and to its end.

        For a check and the change that depends on it. ``work`` waits for nothing but the store.
        """
        if self._holder is not None and self._holder is asyncio.current_task():
            return await work()
        async with self._turn:
            self._holder = task = asyncio.create_task(work())
            try:
                return await to_its_end(task)
            finally:
                self._holder = None

    async def create(
        self,
        job: Job,
        *,
        request: tuple[str, str] | None = None,
        secret_hash: bytes | None = None,
    ) -> Job:
        """Add a new job; AlreadyExists if its id is taken."""

        async def insert() -> Job:
            return self._noted(
                await self._store.create(job, request=request, secret_hash=secret_hash)
            )

        return await self.alone(insert)

    async def record(
        self,
        job_id: str,
        kind: EventKind,
        *,
        request: tuple[str, str] | None = None,
        secret_hash: bytes | None = None,
        **change: Unpack[JobChange],
    ) -> Job:
        """Apply an event to a job; return the job. WrongState: the event is not allowed.

        ``request``, ``secret_hash``: as in ``Store.append``, which raises AlreadyExists.
        """

        async def append() -> Job:
            job = await self.get(job_id)
            event = Event(kind, self._clock.time(), change)
            stored = await self._store.append(
                job, event, request=request, secret_hash=secret_hash
            )
            return self._noted(stored, job)

        return await self.alone(append)

    async def change_versions(
        self, job_id: str, change: VersionChange, committed: Callable[[], None]
    ) -> None:
        """Make a change of a job's versions durable, as events of the job.

        Calls ``committed`` when it is durable, before readers are woken. WrongState: a job that
        has ended publishes nothing, nor does an attempt that has.
        """

        async def store() -> None:
            job = await self.get(job_id)
            published = change.published
            if published is not None and published.attempt != job.attempt:
                raise WrongState(
                    f"job {job_id} is at attempt {job.attempt}: attempt {published.attempt} "
                    "publishes nothing more"
                )
            stored = await self._store.change_versions(job, change)
            committed()
            for event in stored:
                self._noted(event, job)

        await self.alone(store)

    def note_progress(self, job_id: str, progress: ProgressReport) -> None:
        """Store the newest progress in memory; the job's next event makes it durable.

        A report before the first step holds none.
        """
        job = self._live.get(job_id)
        if job is not None and job.state.launched and progress.step:
            job = dataclasses.replace(job, progress=progress, report_time=self._clock.time())
            self._live[job_id] = job
            self._events.progress(job, progress)

    def note_report(self, job_id: str) -> None:
        """Store in memory that the job's run has just been heard of."""
        job = self._live.get(job_id)
        if job is not None and job.state.launched:
            self._live[job_id] = dataclasses.replace(job, report_time=self._clock.time())

    def note_silence(self, job_id: str) -> None:
        """Send watchers a live job again, whose ``report_time`` is long ago or new again."""
        job = self._live.get(job_id)
        if job is not None:
            self._events.status(job)

    def note_condition(self, job_id: str, kind: ConditionKind, message: str | None) -> None:
        """Store a condition of a live job in memory; None: it holds no longer.

        Watchers are sent the job when its conditions change. A condition that holds already
        keeps its time; the end of an attempt removes all.
        """
        job = self._live.get(job_id)
        if job is None:
            return
        held = {condition.kind: condition for condition in job.conditions}
        if message is None:
            held.pop(kind, None)
        else:
            since = held[kind].since if kind in held else self._clock.time()
            held[kind] = Condition(kind, message, since)
        conditions = tuple(held[kind] for kind in ConditionKind if kind in held)
        if conditions != job.conditions:
            self._live[job_id] = job = dataclasses.replace(job, conditions=conditions)
            self._events.status(job)

    def _noted(self, change: Change, before: Job | None = None) -> Job:
        """Note a committed change of the job ``before``, and announce it."""
        job = change.job
        if job.state.terminal:
            self._live.pop(job.id, None)
        else:
            present = self._live.get(job.id, before)
            if present is not None and before is not None:
                job = _with_newer_reports(job, present, before)
            self._live[job.id] = job
        for changed in self._noticing:
            changed(change)
        self._events.announce(change)
        return job


def _with_newer_reports(job: Job, present: Job, before: Job) -> Job:
    """Return the job with the reports that came during the commit of its change."""
    noted = ("progress", "conditions", "report_time") if job.state.launched else ("progress",)
    newer = {
        name: getattr(present, name)
        for name in noted
        if getattr(present, name) is not getattr(before, name)
    }
    return dataclasses.replace(job, **newer) if newer else job
