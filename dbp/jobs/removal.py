"""Delete jobs: first durably in the store, then their folders.

A job whose deletion is recorded is gone for every reader. A reader that has a file of it open
reads it to its end. The next start removes folders that a killed service left. Of the deleted
jobs the newest ones stay known, see ``ended_jobs``.
"""

from __future__ import annotations

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

    async def delete(self, job_id: str, *, request_id: str = "") -> Job:
        """Delete a job, pinned and labelled versions too; return it as it was.

        Durable on return. A request that is repeated with its ``request_id`` changes nothing
        and returns the same job, with the name of its spec alone.

        Raises:
            JobNotFound: there is no such job, or another request has deleted it before.
            WrongState: the job has not ended.
            AlreadyExists: the id is that of an earlier request of another kind or job.
        """
        request = (request_id, DELETION) if request_id else None
        try:
            job = await self._table.alone(lambda: self._record(job_id, request))
        except JobNotFound:
            if await self._store.request(request_id) != (job_id, DELETION):
                raise
            return await self._store.get(job_id, deleted=True)
        await self._remove_files(job_id)
        return job

    async def delete_unprotected(self, job_id: str) -> bool:
        """Delete a job unless a version of it is pinned or has a label of a user.

        Return whether it was deleted. Raises as ``delete``.
        """

        async def record() -> bool:
            protected = await self._store.ended.is_protected(job_id)
            if not protected:
                await self._record(job_id)
            return not protected

        deleted = await self._table.alone(record)
        if deleted:
            await self._remove_files(job_id)
        return deleted

    async def _record(self, job_id: str, request: tuple[str, str] | None = None) -> Job:
        job = await self._table.get(job_id)
        if not job.state.terminal:
            raise WrongState(
                f"job {job_id} is {job.state}: only a job that has ended can be deleted; "
                f"end it first: dbp cancel {job_id}"
            )
        return await self._table.record(job_id, EventKind.DELETED, request=request)

    async def sweep(self) -> None:
        """Remove the files of deleted jobs that a killed service left."""
        found = await in_thread(self._folder.job_ids)
        for job_id in await self._store.ended.deleted(found):
            await self._logged(partial(self._remove, job_id))
        await self._logged(self._remove_moved)
        while await self._forget_oldest() == FORGOTTEN_AT_ONCE:
            pass

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
