"""Delete jobs: first durably in the store, then their folders.

A job whose deletion is recorded is gone for every reader. A reader that has a file of it open
reads it to its end. Once a deletion is recorded, a task of the service removes the files, also
where the caller is cancelled. The next start removes folders that a killed service left. Of the
deleted jobs the newest ones stay known, see ``ended_jobs``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, final

from dbp.errors import DbpError, JobNotFound, WrongState
from dbp.job.state import EventKind, Job
from dbp.jobs.ended_jobs import FORGOTTEN_AT_ONCE
from dbp.jobs.job_table import JobTable
from dbp.jobs.store import Store
from dbp.storage.disk_use import remove_folder
from dbp.storage.state_folder import StateFolder
from dbp.storage.threads import in_thread
from dbp.versions.publisher import VersionPublisher

UPLOADS_SECONDS: Final = 5.0
# Stored as the digest of a request to delete a job; those of requests for jobs are SHA-256.
DELETION: Final = "delete"
# Deletions after which the oldest deleted jobs are forgotten.
FORGET_EVERY: Final = 100

log = logging.getLogger("dbp.jobs")


@final
class JobRemoval:
    """Deletes jobs that have ended."""

    def __init__(
        self,
        folder: StateFolder,
        store: Store,
        table: JobTable,
        publisher: VersionPublisher,
    ) -> None:
        """Store the collaborators; deletes nothing."""
        self._folder = folder
        self._store = store
        self._table = table
        self._publisher = publisher
        self._deletions = 0
        self._removing: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Wait until the files of the jobs that were deleted are removed."""
        await asyncio.gather(*self._removing.values(), return_exceptions=True)

    async def delete(self, job_id: str, *, request_id: str = "") -> Job:
        """Delete a job, pinned and labelled versions too; return it as it was.

        Durable on return. A request that is repeated with its ``request_id`` removes only files
        that are left, and returns the same job, with the name of its spec alone.

        Raises:
            JobNotFound: there is no such job, or another request has deleted it before.
            WrongState: the job has not ended.
            AlreadyExists: the id is that of an earlier request of another kind or job.
        """
        request = (request_id, DELETION) if request_id else None
        try:
            job, removing = await self._table.alone(lambda: self._record(job_id, request))
        except JobNotFound:
            if await self._store.request(request_id) != (job_id, DELETION):
                raise
            job = await self._store.get(job_id, deleted=True)
            removing = self._begin_removal(job_id)
        await asyncio.shield(removing)
        return job

    async def delete_unprotected(self, job_id: str) -> bool:
        """Delete a job unless a version of it is pinned or has a label of a user.

        Return whether it was deleted. Raises as ``delete``.
        """

        async def record() -> asyncio.Task[None] | None:
            if await self._store.ended.is_protected(job_id):
                return None
            return (await self._record(job_id))[1]

        removing = await self._table.alone(record)
        if removing is not None:
            await asyncio.shield(removing)
        return removing is not None

    async def _record(
        self, job_id: str, request: tuple[str, str] | None = None
    ) -> tuple[Job, asyncio.Task[None]]:
        """Record the deletion; return the job and the task that removes its files.

        Runs to its end, so that each recorded deletion has a task.
        """
        job = await self._table.get(job_id)
        if not job.state.terminal:
            raise WrongState(
                f"job {job_id} is {job.state}: only a job that has ended can be deleted; "
                f"end it first: dbp cancel {job_id}"
            )
        job = await self._table.record(job_id, EventKind.DELETED, request=request)
        return job, self._begin_removal(job_id)

    async def sweep(self) -> None:
        """Remove the files of deleted jobs that a killed service left."""
        found = await in_thread(self._folder.job_ids)
        for job_id in await self._store.ended.deleted(found):
            await self._logged(partial(self._remove, job_id))
        await self._logged(self._remove_moved)
        while await self._forget_oldest() == FORGOTTEN_AT_ONCE:
            pass

    def _begin_removal(self, job_id: str) -> asyncio.Task[None]:
        """Return the task that removes the files of a deleted job, one at a time for a job."""
        task = self._removing.get(job_id)
        if task is None:
            task = self._removing[job_id] = asyncio.create_task(self._remove_files(job_id))
            task.add_done_callback(partial(self._removed, job_id))
        return task

    def _removed(self, job_id: str, task: asyncio.Task[None]) -> None:
        del self._removing[job_id]
        if not task.cancelled() and task.exception() is not None:
            log.error("job %s: its files stay", job_id, exc_info=task.exception())

    async def _remove_files(self, job_id: str) -> None:
        # An upload that came too late for the end of the job still writes to its folder.
        await self._publisher.settled(job_id, UPLOADS_SECONDS)
        await self._logged(partial(self._remove, job_id))
        self._deletions += 1
        if self._deletions % FORGET_EVERY == 0:
            await self._forget_oldest()

    async def _forget_oldest(self) -> int:
        """Forget the oldest deleted jobs; a failure is logged, a later call tries again."""
        try:
            found = await in_thread(self._folder.job_ids)
            return await self._store.ended.forget_oldest(found)
        except (DbpError, OSError) as error:  # a full disk, for instance
            log.warning("deleted jobs stay in the database: %s", error)
            return 0

    async def _logged(self, remove: Callable[[], None]) -> None:
        """Call ``remove`` in a thread; a failure is logged, the next start tries again."""
        try:
            await in_thread(remove)
        except OSError as error:
            log.warning(
                "%s: files of a deleted job stay until the next start: %s",
                error.filename or self._folder.deleted_folder,
                error.strerror or error,
            )

    def _remove(self, job_id: str) -> None:
        try:
            moved = self._folder.discard(job_id)
        except OSError:  # a full disk has no space for a folder, either
            moved = self._folder.job_folder(job_id)
        if moved is not None:
            remove_folder(moved)

    def _remove_moved(self) -> None:
        folder = self._folder.deleted_folder
        for left in list(folder.iterdir()) if folder.is_dir() else []:
            remove_folder(left)
