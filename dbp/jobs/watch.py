"""Events of jobs for any number of watchers, in bounded memory.

A watcher has no queue. It has a position among the durable events, which are read from the
store if the watcher is slow, and the newest progress of each job. So no change of state is lost
or reordered, progress reports are thinned (their number is sent), and no slow watcher delays
another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Final, TypeAlias, final

from dbp.errors import OutOfRange
from dbp.job.state import Job, ProgressReport, State, StreamEndReason
from dbp.jobs.store import Store
from dbp.jobs.watch_items import (
    Change,
    End,
    Heartbeat,
    JobStatus,
    ProgressItem,
    WatchItem,
)

RECENT_CHANGES: Final = 1_024
_PAGE: Final = 200

# The job as people should see it now: with its newest progress and why it waits.
View: TypeAlias = Callable[[Job], Job]


@final
class VersionChanges:
    """Wakes readers that wait for a job's versions; keeps nothing of jobs without readers."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.closed = False

    def wake(self, job_id: str) -> None:
        """Wake the readers of a job: its versions changed, or no more will come."""
        for event in self._waiting.get(job_id, ()):
            event.set()

    def close(self) -> None:
        """Wake all readers; nothing more will change."""
        self.closed = True
        for job_id in self._waiting:
            self.wake(job_id)

    @contextlib.contextmanager
    def waiting(self, job_id: str) -> Iterator[asyncio.Event]:
        """Yield an event that every change sets; clear it before looking for one."""
        event = asyncio.Event()
        self._waiting.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]


@final
class _Watcher:
    """The position of one watcher, and the progress and jobs that it has not been sent."""

    def __init__(self, job_id: str | None, cursor: int) -> None:
        self.job_id = job_id
        self.cursor = cursor
        self.progress: dict[str, ProgressItem] = {}
        self.statuses: dict[str, Job] = {}
        self.seen: dict[str, int] = {}
        self.woken = asyncio.Event()

    def wants(self, job_id: str) -> bool:
        return self.job_id is None or self.job_id == job_id

    def note(self, job_id: str, progress: ProgressReport, position: int) -> None:
        """Store the newest progress and count the reports that it replaces."""
        before = self.progress.get(job_id)
        skipped = before.skipped + 1 if before else 0
        self.progress[job_id] = ProgressItem(job_id, progress, skipped, position)
        self.woken.set()

    def progress_before(self, change: Change) -> Iterator[ProgressItem]:
        """Yield the progress that was reported before the change, to be sent first."""
        item = self.progress.get(change.job.id)
        if item is not None and (item.resume < change.sequence or change.job.state.terminal):
            del self.progress[change.job.id]
            yield replace(item, resume=self.cursor)

    def noted_so_far(self, view: View) -> Iterator[ProgressItem | JobStatus]:
        """Yield progress, then jobs whose conditions changed, each after its earlier events."""
        for job_id in list(self.progress):
            if self.progress[job_id].resume <= self.cursor:
                yield replace(self.progress.pop(job_id), resume=self.cursor)
        for job_id in list(self.statuses):
            job = view(self.statuses[job_id])
            if job.sequence <= self.cursor:
                del self.statuses[job_id]
                yield JobStatus(job, self.cursor)


@final
class EventBroadcaster:
    """Distributes events to watchers; ``versions`` wakes readers that wait for parameters."""

    def __init__(self, store: Store, *, heartbeat_seconds: float, view: View) -> None:
        """Store the collaborators.

        Args:
            view: adds the newest progress and the reason for waiting to a stored job.
            heartbeat_seconds: silence after which a heartbeat is sent.
        """
        self._store = store
        self._heartbeat_seconds = heartbeat_seconds
        self._view = view
        self._recent: deque[Change] = deque(maxlen=RECENT_CHANGES)
        self._newest = 0
        self._watchers: set[_Watcher] = set()
        self._closed = False
        self.versions = VersionChanges()

    async def load(self) -> None:
        """Read the number of the newest event; call once, before the first change."""
        self._newest = (await self._store.sequence_range())[1]

    def announce(self, change: Change) -> None:
        """Send a durable change to all watchers."""
        self._recent.append(change)
        self._newest = change.sequence
        for watcher in self._watchers:
            if watcher.wants(change.job.id):
                watcher.woken.set()
        self.versions.wake(change.job.id)

    def progress(self, job: Job, progress: ProgressReport) -> None:
        """Send progress of a job to all watchers, after the events of the job; not stored."""
        for watcher in self._watchers:
            if watcher.wants(job.id):
                watcher.note(job.id, progress, job.sequence)

    def status(self, job: Job) -> None:
        """Send a job to all its watchers again: its conditions have changed; not stored."""
        for watcher in self._watchers:
            if watcher.wants(job.id):
                watcher.statuses[job.id] = job
                watcher.woken.set()

    def close(self) -> None:
        """End all streams after the events that are still to be sent."""
        self._closed = True
        self.versions.close()
        for watcher in self._watchers:
            watcher.woken.set()

    async def watch(
        self, job_id: str | None, after_sequence: int | None
    ) -> AsyncIterator[WatchItem]:
        """Yield the items of one job, or of all; see ``JobManager.watch``."""
        if after_sequence:
            await self._check_kept(job_id, after_sequence)
        cursor = after_sequence or self._newest
        watcher = _Watcher(job_id, cursor)
        self._watchers.add(watcher)
        try:
            # Read after the watcher was added, so that no change is missed in between. A watch
            # that is resumed also receives the end of a job that was deleted meanwhile.
            job = None
            if job_id is not None:
                job = self._view(await self._store.get(job_id, deleted=bool(after_sequence)))
            if not after_sequence:
                async for status in self._statuses(watcher, job):
                    yield status
            if job is not None and job.state.terminal and job.sequence <= cursor:
                yield End(StreamEndReason.JOB_ENDED, cursor)
                return
            async for item in self._follow(watcher):
                yield item
        finally:
            self._watchers.discard(watcher)

    async def _check_kept(self, job_id: str | None, sequence: int) -> None:
        """Raise OutOfRange if an event after this one that the watcher wants is deleted."""
        oldest, newest = await self._store.sequence_range(job_id)
        if not oldest <= sequence <= newest:
            whose = "" if job_id is None else f" of job {job_id}"
            raise OutOfRange(
                f"resume token {sequence}: events {oldest} to {newest}{whose} are kept; "
                "watch again without a token"
            )

    async def _statuses(self, watcher: _Watcher, job: Job | None) -> AsyncIterator[JobStatus]:
        """Yield the watched jobs; a watch can be resumed only from the last status on."""
        if job is not None:
            watcher.seen[job.id] = job.sequence
            yield JobStatus(self._view(job), watcher.cursor)
            return
        previous: Job | None = None
        before: int | None = None
        while page := await self._store.page(limit=_PAGE, before=before):
            before = page[-1][0]
            for _, listed in page:
                if previous is not None:
                    yield JobStatus(previous, 0)
                previous = self._view(listed)
                if previous.sequence > watcher.cursor:
                    watcher.seen[previous.id] = previous.sequence
        if previous is not None:
            yield JobStatus(previous, watcher.cursor)

    async def _follow(self, watcher: _Watcher) -> AsyncIterator[WatchItem]:
        ended = False
        while True:
            watcher.woken.clear()
            changes = await self._changes(watcher)
            for change in changes:
                for item in self._items_of(watcher, change):
                    yield item
                ended = watcher.job_id is not None and change.job.state.terminal
            if ended and not changes:  # labels may have moved after the end
                yield End(StreamEndReason.JOB_ENDED, watcher.cursor)
                return
            for noted in watcher.noted_so_far(self._view):
                yield noted
            if changes or watcher.woken.is_set():
                continue
            if self._closed:
                yield End(StreamEndReason.DRAINING, watcher.cursor)
                return
            try:
                async with asyncio.timeout(self._heartbeat_seconds):
                    await watcher.woken.wait()
            except TimeoutError:
                if not watcher.woken.is_set():
                    watcher.cursor = self._newest  # all events meanwhile are of other jobs
                yield Heartbeat(watcher.cursor)

    def _items_of(self, watcher: _Watcher, change: Change) -> Iterator[WatchItem]:
        yield from watcher.progress_before(change)
        watcher.cursor = change.sequence
        if change.job.state.terminal:
            watcher.statuses.pop(change.job.id, None)
        if change.sequence <= watcher.seen.get(change.job.id, 0):
            return
        if change.job.state is State.QUEUED:
            # Of the view only the reason: the job may have changed since.
            reason = self._view(change.job).waiting_reason
            change = replace(change, job=replace(change.job, waiting_reason=reason))
        yield change

    async def _changes(self, watcher: _Watcher) -> list[Change]:
        """Return the next announced changes that the watcher wants."""
        newest = self._newest
        if watcher.cursor >= newest:
            return []
        if not self._recent or self._recent[0].sequence > watcher.cursor + 1:
            stored = await self._store.events_after(
                watcher.cursor, job_id=watcher.job_id, limit=_PAGE
            )
            # After reading, so that no gap is missed.
            await self._check_kept(watcher.job_id, watcher.cursor)
            changes = [change for change in stored if change.sequence <= self._newest]
        else:
            start = watcher.cursor + 1 - self._recent[0].sequence
            recent = islice(self._recent, start, None)
            changes = [change for change in recent if watcher.wants(change.job.id)]
        if not changes:
            watcher.cursor = newest  # all events up to here are of other jobs
        return changes
