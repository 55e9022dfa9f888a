"""Whether the present caller may see, change or delete a job: by its owner and visibility."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from dbp.access.principal import CALLER
from dbp.access.roles import Role
from dbp.errors import JobNotFound, PermissionDenied, job_not_found
from dbp.job.state import Job
from dbp.rpc.scalar_convert import id_from_name

GetJob: TypeAlias = Callable[[str], Awaitable[Job]]

MAX_REMEMBERED: Final = 10_000
SHARED: Final = "shared"


@dataclass(frozen=True)
class _Terms:
    """Owner and visibility of a job; they never change."""

    owner: str
    shared: bool


@final
class JobAccess:
    """Checks callers against the owners of jobs. Admins may do everything."""

    def __init__(self, get: GetJob, get_deleted: GetJob) -> None:
        """``get`` returns the job with an id, ``get_deleted`` a deleted one too; NotFound."""
        self._get = get
        self._get_deleted = get_deleted
        self._known: OrderedDict[str, _Terms] = OrderedDict()

    async def readable(self, name: str, field: str = "name") -> str:
        """Return the id of the job named ``jobs/ID``, which the caller may read.

        ``field``: path of the name in the request. Raises PermissionDenied, NotFound and
        InvalidInput, as the other methods do.
        """
        return await self._check(id_from_name(name, field), "see", shared=True)

    async def changeable(self, name: str) -> str:
        """Return the id of the named job, which the caller may change."""
        return await self._check(id_from_name(name), "change", shared=True)

    async def deletable(self, name: str) -> str:
        """Return the id of the named job, which the caller may delete, or has deleted."""
        return await self._check_deleted(id_from_name(name), "delete", shared=False)

    async def resumable(self, name: str) -> str:
        """Return the id of the named job, which the caller may read, or an own deleted one."""
        return await self._check_deleted(id_from_name(name), "see", shared=True)

    async def sees(self, job_id: str) -> bool:
        """Return whether there is the job and the caller may read it."""
        if _is_admin():
            return True
        try:
            return _allowed(await self._terms(job_id), shared=True)
        except JobNotFound:
            return False

    async def _check(self, job_id: str, action: str, *, shared: bool) -> str:
        if _is_admin():
            return job_id
        terms = await self._terms(job_id)
        if not _allowed(terms, shared=shared):
            await self._present(job_id)  # the terms of a deleted job may still be remembered
            kind = "shared" if terms.shared else "private"
            raise PermissionDenied(
                f"job {job_id} is a {kind} job of another user: you may not {action} it; its "
                'owner may submit it with visibility = "shared", an admin may do everything'
            )
        return job_id

    async def _check_deleted(self, job_id: str, action: str, *, shared: bool) -> str:
        try:
            return await self._check(job_id, action, shared=shared)
        except JobNotFound:  # its owner may repeat a request and resume a stream
            if not _allowed(_terms_of(await self._get_deleted(job_id)), shared=False):
                raise
            return job_id

    async def _terms(self, job_id: str) -> _Terms:
        terms = self._known.get(job_id)
        if terms is None:
            terms = self._known[job_id] = _terms_of(await self._present(job_id))
            if len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
        return terms

    async def _present(self, job_id: str) -> Job:
        """Return the job; JobNotFound, which says to its owner alone that it was deleted."""
        try:
            return await self._get(job_id)
        except JobNotFound:
            if _allowed(_terms_of(await self._get_deleted(job_id)), shared=False):
                raise
            raise job_not_found(job_id) from None


def visible(job: Job) -> bool:
    """Return whether the present caller may read a job."""
    return _is_admin() or _allowed(_terms_of(job), shared=True)


def _is_admin() -> bool:
    return CALLER.get().role is Role.ADMIN


def _allowed(terms: _Terms, *, shared: bool) -> bool:
    own = bool(terms.owner) and terms.owner == CALLER.get().owner
    return own or (shared and terms.shared)


def _terms_of(job: Job) -> _Terms:
    return _Terms(job.owner, job.spec.get("visibility") == SHARED)
