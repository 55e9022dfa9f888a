"""Delete ended jobs unasked: after a time to live, and where the disk use exceeds a quota.

Pinned and labelled jobs stay. Each deletion is logged. A step of the wall clock makes no job
old at once: see ``SteadyTime``.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final, final

from dbp.errors import DbpError, JobNotFound, WrongState
from dbp.jobs.config import Clock
from dbp.jobs.ended_jobs import EndedJob
from dbp.jobs.removal import JobRemoval
from dbp.jobs.steady_time import SteadyTime
from dbp.jobs.store import Store
from dbp.quantities import duration_text, size_text
from dbp.storage.disk_use import used_bytes
from dbp.storage.state_folder import StateFolder
from dbp.storage.threads import in_thread

log = logging.getLogger("dbp.jobs")

INTERVAL_SECONDS: Final = 10.0


@final
class CleanUp:
    """Deletes the jobs that exceed a time to live or a quota of disk."""

    def __init__(
        self,
        folder: StateFolder,
        store: Store,
        removal: JobRemoval,
        clock: Clock,
        *,
        keep_ended_seconds: float | None,
        max_disk_bytes: int | None,
    ) -> None:
        """Store the limits; None: no limit.

        Args:
            folder: The state folder.
            store: The jobs.
            removal: Deletes them.
            clock: Gives the time.
            keep_ended_seconds: Time from the end of a job to its deletion.
            max_disk_bytes: Disk space for the state folder, with the jobs that run.
        """
        self._folder = folder
        self._store = store
        self._removal = removal
        self._clock = clock
        self._time = SteadyTime(folder.steady_time_file, clock)
        self._keep_ended_seconds = keep_ended_seconds
        self._max_disk_bytes = max_disk_bytes
        # Bytes of an ended job, with the sequence of its event after which they were measured.
        self._sizes: dict[str, tuple[int, int]] = {}
        self._exceeded = False
        self._refused = ""

    async def run(self) -> None:
        """Delete the jobs above the limits, now and every few seconds, until cancelled."""
        if self._keep_ended_seconds is None and self._max_disk_bytes is None:
            return
        while True:
            try:
                await self.delete_due()
                self._refused = ""
            except (DbpError, OSError) as error:  # a full disk, for instance
                if str(error) != self._refused:
                    log.warning("ended jobs cannot be deleted now: %s", error)
                self._refused = str(error)
            await self._clock.sleep(INTERVAL_SECONDS)

    async def delete_due(self) -> None:
        """Delete the jobs above the limits now."""
        if self._keep_ended_seconds is not None:
            await self._delete_old(self._keep_ended_seconds)
        if self._max_disk_bytes is not None:
            await self._delete_down_to(self._max_disk_bytes)

    async def _delete_old(self, seconds: float) -> None:
        now = await in_thread(self._time.now)
        for ended in await self._store.ended.unprotected(before=now - seconds):
            if await self._delete(ended):
                log.info("job %s: deleted %s after its end", ended.id, duration_text(seconds))

    async def _delete_down_to(self, limit: int) -> None:
        """Delete ended jobs, in the order of their ends, until the rest fits the limit."""
        ended = await self._store.ended.unprotected()
        used = await self._used(ended)
        for job in ended:
            if used <= limit:
                break
            if await self._delete(job):
                size = self._sizes.pop(job.id)[1]
                log.warning(
                    "job %s: deleted: the state folder used %s, more than --max-disk %s; it "
                    "ended %s ago, first of the jobs without pin and label, and frees %s",
                    job.id,
                    size_text(used),
                    size_text(limit),
                    duration_text(max(0.0, self._clock.time() - job.end_time)),
                    size_text(size),
                )
                used -= size
        if used > limit and not self._exceeded:
            log.warning(
                "the state folder uses %s, more than --max-disk %s, and no ended job is left "
                "without pin and label: delete one of the others (dbp delete JOB), or free "
                "space for a larger limit",
                size_text(used),
                size_text(limit),
            )
        self._exceeded = used > limit

    async def _delete(self, job: EndedJob) -> bool:
        """Delete a job; False if it was pinned, queued again or deleted meanwhile."""
        try:
            return await self._removal.delete_unprotected(job.id)
        except (JobNotFound, WrongState):
            return False

    async def _used(self, ended: list[EndedJob]) -> int:
        """Return the bytes of the state folder; notes those of the ended jobs.

        The files of an ended job change only with its events, so they are measured once.
        """
        known = {job.id: self._sizes[job.id] for job in ended if job.id in self._sizes}
        self._sizes = {
            job.id: known[job.id] for job in ended if known.get(job.id, (0,))[0] == job.sequence
        }
        for job in ended:
            if job.id not in self._sizes:
                folder = self._folder.job_folder(job.id)
                self._sizes[job.id] = job.sequence, await in_thread(partial(used_bytes, folder))
        others = await in_thread(partial(self._used_by_others, frozenset(self._sizes)))
        return others + sum(size for _, size in self._sizes.values())

    def _used_by_others(self, measured: frozenset[str]) -> int:
        """Return the bytes of the state folder without the jobs that are measured; blocks.

        Folders of deleted jobs, which are being removed, count nothing.
        """
        jobs, deleted = self._folder.jobs_folder, self._folder.deleted_folder
        total = used_bytes(self._folder.path, without=(jobs, deleted))
        if jobs.is_dir():
            total += sum(used_bytes(job) for job in jobs.iterdir() if job.name not in measured)
        return total
