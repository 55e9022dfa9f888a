"""Access to the parameter versions of jobs: find, wait, label, pin, request.

Reading changes nothing and does not disturb the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, final

from dbp.errors import Conflict, Draining, ResourceExhausted, Unavailable, WrongState
from dbp.job.labels import check_movable
from dbp.job.state import Job, LabelMove, State, Version, VersionEntry
from dbp.jobs.config import Clock
from dbp.jobs.connections import RunConnections
from dbp.jobs.job_table import JobTable
from dbp.jobs.paging import number_of, page_size
from dbp.jobs.publish_terms import kept_by
from dbp.jobs.store import Store
from dbp.jobs.watch import VersionChanges
from dbp.quantities import duration_text
from dbp.versions.index import At, VersionChange, VersionIndex
from dbp.versions.store import Decide, VersionStore
from dbp.versions.tables import MOVES_KEPT

PAGE_SIZE: Final = 100
# Labels of one job at a time: an answer with all of them stays far below 4 MiB.
MAX_LABELS: Final = 1_000
ASK_SECONDS: Final = 1.0


@final
class LiveParameters:
    """The parameter versions of all jobs of one service."""

    def __init__(
        self,
        versions: VersionStore,
        store: Store,
        table: JobTable,
        changes: VersionChanges,
        connections: RunConnections,
        clock: Clock,
    ) -> None:
        self._versions = versions
        self._store = store
        self._table = table
        self._changes = changes
        self._connections = connections
        self._clock = clock
        # Runs asked within the last second, and whether a reader has asked again since.
        self._asked: dict[str, bool] = {}

    async def job(self, job_id: str) -> Job:
        """Return the job; JobNotFound."""
        return await self._table.get(job_id)

    async def kept(self, job_id: str) -> list[int]:
        """Return the numbers of versions whose bytes are stored, oldest first; JobNotFound."""
        return [version.version for version in (await self._versions.index(job_id)).kept]

    async def newest_jobs(self, limit: int) -> list[str]:
        """Return the ids of at most ``limit`` jobs, newest first."""
        return await self._store.newest_ids(limit)

    async def jobs_labelled(self, label: str) -> list[str]:
        """Return the ids of the jobs that have this label, at most a few."""
        return await self._store.jobs_labelled(label)

    async def wait(
        self,
        job_id: str,
        wanted: Callable[[], Awaitable[bool]],
        seconds: float,
        *,
        after_end: bool = False,
    ) -> None:
        """Return once ``wanted`` is true, the job has ended or the time is up; ``wanted`` is
        called at each change. Draining: the service shuts down.

        ``after_end``: wait on when the job has ended, as for a label, which can still move.
        """
        try:
            with self._changes.waiting(job_id) as changed:
                async with asyncio.timeout(seconds):
                    while True:
                        changed.clear()
                        job = await self._table.get(job_id)
                        if await wanted():
                            return
                        if job.state.terminal and not after_end:
                            return
                        if self._changes.closed:
                            raise Draining("the service is shutting down; try again later")
                        await changed.wait()
        except TimeoutError:
            return

    def staleness(self, job_id: str, version: Version) -> int:
        """Return how many steps the run is ahead of a version, by its newest report.

        0 once the run has ended: a final version may hold the parameters of an earlier step.
        """
        job = self._table.live(job_id)
        if job is None or version.final or job.progress is None:
            return 0
        return max(0, job.progress.step - version.step)

    def ask(self, job_id: str) -> bool:
        """Ask the run to publish at its next step; False if it is not connected.

        A run is asked at most once a second, however many readers ask, so that readers cannot
        slow it down.
        """
        if job_id in self._asked:
            self._asked[job_id] = True
            return True
        reached = self._connections.ask(job_id, publish=True)
        if reached:
            self._asked[job_id] = False
            asyncio.get_running_loop().call_later(ASK_SECONDS, self._ask_again, job_id)
        return reached

    def _ask_again(self, job_id: str) -> None:
        if self._asked.pop(job_id) and not self._changes.closed:
            self.ask(job_id)

    async def publish(self, job_id: str, seconds: float) -> Version:
        """Ask the run for a version and return the first one published after that.

        WrongState: the job is not training; Unavailable: its run is not connected, or no
        version came in time.
        """
        job = await self._table.get(job_id)
        if job.state is not State.RUNNING:
            raise WrongState(
                f"job {job_id} is {job.state}: only a RUNNING job publishes on request"
            )
        before = await self._newest(job_id)
        if not self.ask(job_id):
            raise Unavailable(f"job {job_id}: its run is not connected just now; try again")

        async def newer() -> bool:
            newest = await self._newest(job_id)
            return newest is not None and (before is None or newest.version > before.version)

        await self.wait(job_id, newer, seconds)
        latest = await self._newest(job_id)
        if latest is None or (before is not None and latest.version == before.version):
            raise Unavailable(
                f"job {job_id}: no new version came within {duration_text(seconds)}"
            )
        return latest

    async def history(
        self, job_id: str, size: int, token: str
    ) -> tuple[list[VersionEntry], str]:
        """Return versions, newest first, stored or not, and the next page's token;
        InvalidInput.
        """
        size, before = page_size(size, PAGE_SIZE), number_of(token)
        index = await self._versions.index(job_id)
        end = index.newest.version + 1 if index.newest else 1  # stored ones may come after it
        before = end if before is None else min(before, end)
        rows = await self._store.lineage(job_id, limit=size + 1, before=before)
        entries = [_entry(index, version) for version in rows[:size]]
        more = len(rows) > size
        return entries, str(entries[-1].version.version) if more else ""

    async def labels(self, job_id: str) -> tuple[list[LabelMove], list[LabelMove]]:
        """Return the last move of each label, by name, and the last moves, oldest first.

        Both are of the same moment. JobNotFound.
        """
        await self._table.get(job_id)
        index, moves = await self._store.labels(job_id, moves=MOVES_KEPT)
        return [move for label in index.labels if (move := index.move_of(label))], moves

    async def move_label(
        self, job_id: str, label: str, to: At | None, expected: int | None = None
    ) -> LabelMove:
        """Move a label to the version that ``to`` names, or remove it (None).

        No upload's retention comes between finding the version and moving the label. Durable
        on return. Removing a label that is at no version also releases the version that it
        left last.

        InvalidInput: the label's name is not allowed; ResourceExhausted: the job has too many;
        Conflict: the label is not at version ``expected`` (0: none); else the errors of
        ``VersionStore.find``.
        """
        job = await self._table.get(job_id)
        check_movable(label)

        def decide(index: VersionIndex) -> VersionChange | None:
            version = 0 if to is None else index.find(to).version
            now = index.labels.get(label, 0)
            if now != version:  # the same request again is no conflict
                _check_expected(index, label, expected)
            elif version or not index.left.get(label):
                return None
            return self._move(job, index, label, version)

        return await self._moved(job_id, label, decide)

    async def undo_label(
        self, job_id: str, label: str, expected: int | None = None
    ) -> LabelMove:
        """Move a label back to the version that it left last; 0: remove it.

        Durable on return. LabelNotFound: the label is at no version and left none; else the
        errors of ``move_label``.
        """
        job = await self._table.get(job_id)
        check_movable(label)

        def decide(index: VersionIndex) -> VersionChange:
            _check_expected(index, label, expected)
            back = index.left.get(label, 0)
            if back:
                index.find(At(back))
            elif label not in index.labels:
                index.find(At(label=label))  # raises: there is no such label
            return self._move(job, index, label, back)

        return await self._moved(job_id, label, decide)

    async def _moved(self, job_id: str, label: str, decide: Decide) -> LabelMove:
        index = await self._versions.change(job_id, decide)
        return index.move_of(label) or LabelMove(label, 0, self._clock.time())

    def _move(self, job: Job, index: VersionIndex, label: str, version: int) -> VersionChange:
        names = index.names()
        if label not in names and len(names) >= MAX_LABELS:
            raise ResourceExhausted(
                f"job {job.id}: it has {len(names)} labels, at most {MAX_LABELS} are allowed; "
                "remove one first (dbp params label JOB LABEL --remove), twice where an undo "
                "could still restore it"
            )
        return index.move(label, version, keep=kept_by(job), time=self._clock.time())

    async def pin(self, job_id: str, at: At, *, pinned: bool) -> VersionEntry:
        """Pin a version, so that it is always kept, or unpin it; durable on return.

        Finding and pinning it are one step, as in ``move_label``. Raises the errors of
        ``VersionStore.find``.
        """
        job = await self._table.get(job_id)
        found: list[Version] = []

        def decide(index: VersionIndex) -> VersionChange:
            found.append(index.find(at))
            number, time = found[0].version, self._clock.time()
            return index.pin(number, pinned=pinned, keep=kept_by(job), time=time)

        return _entry(await self._versions.change(job_id, decide), found[0])

    async def _newest(self, job_id: str) -> Version | None:
        return (await self._versions.index(job_id)).newest


def _entry(index: VersionIndex, version: Version) -> VersionEntry:
    number = version.version
    kept, pinned = index.keeps(number), number in index.pinned
    return VersionEntry(version, kept, pinned, index.labels_of(number), index.left_by(number))


def _check_expected(index: VersionIndex, label: str, expected: int | None) -> None:
    """Raise Conflict unless the label is at the expected version (0: at none)."""
    now = index.labels.get(label, 0)
    if expected is not None and now != expected:
        raise Conflict(
            f"job {index.job_id}: label {label!r} is at version {now}, not at {expected}; "
            "nothing was changed"
        )
