"""Quotas of each owner: jobs that wait or run, and disk space of all of his jobs."""

from __future__ import annotations

from functools import partial
from typing import Final, final

from dbp.errors import ResourceExhausted
from dbp.jobs.config import Clock, ManagerConfig
from dbp.jobs.job_table import JobTable
from dbp.jobs.store import Store
from dbp.quantities import count_text, size_text
from dbp.storage.disk_use import used_bytes
from dbp.storage.state_folder import StateFolder
from dbp.storage.threads import in_thread

# A measurement of an owner's files is good for so long.
MEASURED_SECONDS: Final = 10.0


def check_job_quota(table: JobTable, config: ManagerConfig, owner: str) -> None:
    """Raise ResourceExhausted if an owner has as many live jobs as he may have."""
    limit = config.max_jobs_per_owner
    if limit is not None and (count := table.count_of(owner)) >= limit:
        raise ResourceExhausted(
            f"{_name(owner)} has {count_text(count, 'job')} that wait or run, as many as are "
            "allowed: wait for one to end, or cancel one: dbp cancel JOB"
        )


@final
class DiskQuota:
    """Measures the files of owners, and refuses new jobs of those above the limit."""

    def __init__(
        self, folder: StateFolder, store: Store, clock: Clock, config: ManagerConfig
    ) -> None:
        self._folder = folder
        self._store = store
        self._clock = clock
        self._limit = config.max_disk_per_owner_bytes
        self._measured: dict[str, tuple[float, int]] = {}

    async def used(self, owner: str) -> int:
        """Return the bytes of an owner's jobs, measured lately; 0 without a limit."""
        if self._limit is None:
            return 0
        time, size = self._measured.get(owner, (0.0, 0))
        if owner in self._measured and self._clock.monotonic() - time < MEASURED_SECONDS:
            return size
        size = 0
        for job_id in await self._store.ended.of_owner(owner):
            size += await in_thread(partial(used_bytes, self._folder.job_folder(job_id)))
        self._measured[owner] = self._clock.monotonic(), size
        return size

    def check(self, owner: str, used: int) -> None:
        """Raise ResourceExhausted if an owner's jobs use more than the limit."""
        if self._limit is not None and used >= self._limit:
            raise ResourceExhausted(
                f"the jobs of {_name(owner)} use {size_text(used)} of disk, at most "
                f"{size_text(self._limit)} are allowed: delete some that have ended: "
                "dbp delete JOB"
            )


def _name(owner: str) -> str:
    return owner or "the service's own user"
