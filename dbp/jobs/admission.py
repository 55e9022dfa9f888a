"""Validate a request for a job, deduplicate it by its request id, store the job."""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, final

from dbp.errors import (
    AlreadyExists,
    InvalidInput,
    InvalidSpec,
    JobNotFound,
    ResourceExhausted,
    Unauthenticated,
    Violation,
    WrongState,
)
from dbp.job.state import Job, State
from dbp.jobs.checks import (
    Check,
    Checked,
    CheckFailedError,
    CheckRequest,
    Checks,
    NotCheapError,
)
from dbp.jobs.config import Clock, ManagerConfig
from dbp.jobs.connections import hash_secret, new_secret
from dbp.jobs.job_queue import JobQueue
from dbp.jobs.job_table import JobTable
from dbp.jobs.quotas import DiskQuota, check_job_quota
from dbp.jobs.store import RequestExists, Store
from dbp.json_value import JsonObject
from dbp.quantities import count_text
from dbp.storage.state_folder import StateFolder

# Of a check that a caller waits for.
WAIT_SECONDS: Final = 10.0
MEMORY_BYTES: Final = 2 * 2**30

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# Base 32 without letters and digits that look alike.
_ALPHABET: Final = "23456789abcdefghjkmnpqrstuvwxyz"


def new_id(name: str) -> str:
    """Return a short id that can be read aloud, such as ``digits-7k2m9q``."""
    return f"{name}-{''.join(secrets.choice(_ALPHABET) for _ in range(6))}"


@dataclass(frozen=True)
class _Request:
    """A validated request for a job."""

    checked: Checked
    workers: int
    request_id: str
    owner: str

    @property
    def key(self) -> tuple[str, str] | None:
        """Request id and the digest of everything requested with it; None without an id."""
        if not self.request_id:
            return None
        return self.request_id, sha256(
            f"{self.checked.digest} {self.workers}".encode()
        ).hexdigest()

    def job(self, now: float) -> Job:
        """Return the QUEUED job of this request; its id is still empty."""
        return Job(
            id="",
            spec=self.checked.document,
            spec_digest=self.checked.digest,
            workers=self.workers,
            state=State.QUEUED,
            create_time=now,
            notes=self.checked.notes,
            owner=self.owner,
            data_digest=self.checked.data_digest,
            unchecked=not self.checked.is_whole,
            confined=self.checked.confined,
        )


@final
class Admission:
    """Accepts or refuses requests for jobs."""

    def __init__(
        self,
        store: Store,
        table: JobTable,
        queue: JobQueue,
        *,
        checks: Checks,
        folder: StateFolder,
        config: ManagerConfig,
        clock: Clock,
        new_id: Callable[[str], str],
    ) -> None:
        """Store the collaborators. The checks run in threads: they load components and open
        files.
        """
        self._store = store
        self._table = table
        self._queue = queue
        self._checks = checks
        self._clock = clock
        self._new_id = new_id
        self._config = config
        self._disk_quota = DiskQuota(folder, store, clock, config)

    async def admit(
        self,
        document: JsonObject,
        *,
        workers: int,
        request_id: str,
        owner: str,
        validate_only: bool,
        enqueue: Callable[[Job], Awaitable[None]],
    ) -> Job:
        """Return the request's job, after ``enqueue`` if it is new. Raises as
        ``JobManager.create``.

        ``validate_only``: the job is not stored and has no id.
        """
        slots = self._queue.slots
        # A request of an earlier service, which had more slots, has made its job.
        if workers > slots and not (request_id and await self._store.request(request_id)):
            raise WrongState(
                f"workers: {workers} asked for, this service has "
                f"{count_text(slots, 'slot')}; "
                f"use at most {count_text(slots, 'worker')}, or start the service with more "
                f"slots: dbp serve --slots {workers}"
            )
        request = await self._checked(self._checks.job, document, workers, request_id, owner)
        used = await self._disk_quota.used(owner)

        async def admit() -> Job:
            try:
                self._queue.check_length()
                check_job_quota(self._table, self._config, owner)
                self._disk_quota.check(owner, used)
                if validate_only:
                    await self._earlier(request)
                    return request.job(self._clock.time())
                job = await self._insert(request.job(self._clock.time()), request)
            except (RequestExists, ResourceExhausted):
                # Looked up only now: most requests are new, and the insert finds out.
                known = await self._earlier(request)
                if known is None:
                    raise
                return request.job(self._clock.time()) if validate_only else known
            await enqueue(job)
            return job

        return await self._table.alone(admit)

    async def admit_run(
        self,
        document: JsonObject,
        *,
        workers: int,
        request_id: str,
        owner: str,
        host: str,
        expect: Callable[[str], None],
    ) -> tuple[Job, str]:
        """Return the job of a run started by hand, after ``expect`` if it is new, and its new
        secret. ResourceExhausted: the queue is full.
        """
        request = await self._checked(self._checks.run, document, workers, request_id, owner)
        secret, secret_hash = new_secret()

        async def admit() -> Job:
            known = await self._earlier(request)
            if known is not None:
                if not known.attached:
                    raise AlreadyExists(f"request_id {request_id!r} belongs to job {known.id}")
                await self._store.set_secret(known.id, known.attempt, secret_hash)
                return known
            self._queue.check_length()
            check_job_quota(self._table, self._config, owner)
            now = self._clock.time()
            job = replace(
                request.job(now),
                state=State.STARTING,
                start_time=now,
                attempt=1,
                attached=True,
                host=host,
            )
            job = await self._insert(job, request, secret_hash)
            self._queue.note_run(job.id)
            expect(job.id)
            return job

        return await self._table.alone(admit), secret

    async def authorize(self, job_id: str, attempt: int, secret: str) -> None:
        """Raise Unauthenticated unless this is the secret of the attempt."""
        known = await self._store.secret_hash(job_id, attempt)
        given = hash_secret(secret)
        if not hmac.compare_digest(known or bytes(len(given)), given):
            raise Unauthenticated(f"job {job_id}: wrong secret for attempt {attempt}")

    async def _checked(
        self, check: Check, document: JsonObject, workers: int, request_id: str, owner: str
    ) -> _Request:
        if workers < 1:
            raise InvalidInput(f"workers: must be >= 1, got {workers}")
        try:
            checked = await asyncio.to_thread(check, document, workers)
        except NotCheapError as reason:
            checked = await self._checked_apart(document, workers, owner, reason)
        # The name becomes part of the id, the id part of a path: not left to others to check.
        if not _NAME.fullmatch(str(checked.document.get("name", ""))):
            rule = "must be lower-case letters, digits and dashes, at most 63"
            raise InvalidSpec([Violation("name", rule)])
        return _Request(checked, workers, request_id, owner)

    async def _checked_apart(
        self, document: JsonObject, workers: int, owner: str, reason: NotCheapError
    ) -> Checked:
        """Check as much as the caller can wait for, in a process that ends if he leaves."""
        request = CheckRequest(
            document,
            workers,
            owner,
            whole=reason.whole,
            seconds=WAIT_SECONDS,
            memory_bytes=MEMORY_BYTES,
            confined=reason.confined,
        )
        try:
            checked = await self._checks.apart(request)
            return replace(checked, confined=reason.confined)
        except CheckFailedError as failure:
            if not reason.whole:
                raise ResourceExhausted(
                    f"{failure}: its headers and first rows alone; are the files slow to read?"
                ) from failure
        heads = NotCheapError(whole=False, confined=reason.confined)
        return await self._checked_apart(document, workers, owner, heads)

    async def _earlier(self, request: _Request) -> Job | None:
        """Return the job of an earlier request with this id; None if there was none. Raises
        AlreadyExists if that request asked for something else.
        """
        if request.key is None:
            return None
        known = await self._store.request(request.request_id)
        if known is None:
            return None
        try:
            owner = (await self._store.get(known[0], deleted=True)).owner
        except JobNotFound:  # forgotten just now, with its request ids
            return None
        if owner != request.owner:
            raise AlreadyExists(
                f"request_id {request.request_id!r} belongs to another user; use a new one"
            )
        if known[1] != request.key[1]:
            raise AlreadyExists(
                f"request_id {request.request_id!r} made job {known[0]} from another spec or "
                "number of workers, or deleted it; use a new request_id"
            )
        try:
            return await self._table.get(known[0])
        except JobNotFound as error:
            raise AlreadyExists(
                f"request_id {request.request_id!r} made job {known[0]}, which was deleted; "
                "use a new request_id to submit the job again"
            ) from error

    async def _insert(
        self, job: Job, request: _Request, secret_hash: bytes | None = None
    ) -> Job:
        while True:
            try:
                return await self._table.create(
                    replace(job, id=self._new_id(str(request.checked.document["name"]))),
                    request=request.key,
                    secret_hash=secret_hash,
                )
            except RequestExists:
                raise
            except AlreadyExists:
                continue  # the random part of the id was used before
