"""Rows of jobs, events, requests, attempts and versions.

All SQL is here, in EventTable and in VersionTables.

Every method that changes something is one transaction, durable when it returns; all run on the
threads of the ``Database``. ``dbp.job.state.advance`` decides which event may follow which.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final, TypeAlias, final

from dbp.errors import AlreadyExists, job_not_found
from dbp.job.job_json import decode_outcome, encode_outcome
from dbp.job.state import Event, EventKind, Job, LabelMove, RunOutcome, State, Version
from dbp.job.transitions import advance
from dbp.jobs.ended_jobs import DELETED, EndedJobs, note_rows
from dbp.jobs.event_table import EventTable, decoded
from dbp.jobs.watch_items import Change
from dbp.storage.database import Database
from dbp.versions.index import VersionChange, VersionIndex
from dbp.versions.tables import VersionTables

EVENTS_KEPT: Final = 50_000
# A page of jobs ends after this much JSON, so that large specs are not loaded for nothing.
PAGE_BYTES: Final = 4 << 20
# Changes that are stored even on a full disk: of jobs that run, or are to end.
_RESERVED: Final = frozenset(
    {
        EventKind.RUNNING,
        EventKind.CANCELLING,
        EventKind.PAUSING,
        EventKind.PAUSED,
        EventKind.REQUEUED,
        EventKind.SUCCEEDED,
        EventKind.FAILED,
        EventKind.CANCELLED,
        EventKind.DELETED,
    }
)
_LIVE: Final = tuple(state for state in State if not state.terminal)

Rows: TypeAlias = list[tuple[Any, ...]]


@final
class RequestExists(AlreadyExists):
    """The id is that of an earlier request; nothing was changed."""


@final
class Store:
    """Jobs, their events, requests, attempts and versions."""

    def __init__(self, database: Database, *, events_kept: int = EVENTS_KEPT) -> None:
        """Use the tables of this file; about ``events_kept`` events of all jobs stay."""
        self._database = database
        self.ended = EndedJobs(database)
        self._events_kept = events_kept

    # Changes

    async def create(
        self,
        job: Job,
        *,
        request: tuple[str, str] | None = None,
        secret_hash: bytes | None = None,
    ) -> Change:
        """Insert a new job; ``request`` is its request id and digest.

        Raises:
            RequestExists: an earlier job has the request id.
            AlreadyExists: the id is taken.
        """

        def insert(connection: sqlite3.Connection) -> Change:
            created = Event(EventKind.CREATED, job.create_time)
            change = EventTable(connection).create(job, created, keep=self._events_kept)
            if request is not None:
                _set_request(connection, job.id, request)
            if secret_hash is not None:
                _set_secret(connection, job.id, job.attempt, secret_hash)
            return change

        return await self._database.write(insert)

    async def append(
        self,
        job: Job,
        event: Event,
        *,
        request: tuple[str, str] | None = None,
        secret_hash: bytes | None = None,
    ) -> Change:
        """Apply an event and return the change; WrongState if the event is not allowed.

        Stored with it: id and digest of the ``request`` for it, and the new attempt's
        ``secret_hash``. RequestExists: an earlier request has the id.
        """
        after = advance(job, event)

        def insert(connection: sqlite3.Connection) -> Change:
            change = self._insert_event(connection, after, event)
            if request is not None:
                _set_request(connection, after.id, request)
            if secret_hash is not None:
                _set_secret(connection, after.id, after.attempt, secret_hash)
            note_rows(connection, event.kind, after)
            return change

        return await self._database.write(insert, reserved=event.kind in _RESERVED)

    async def change_versions(self, job: Job, change: VersionChange) -> list[Change]:
        """Store a change of a job's versions, and its events; WrongState as in ``append``."""
        steps = []
        for event in change.events():
            job = advance(job, event)
            steps.append((job, event))

        def insert(connection: sqlite3.Connection) -> list[Change]:
            VersionTables(connection).apply(job.id, change)
            return [self._insert_event(connection, after, event) for after, event in steps]

        return await self._database.write(insert)

    async def set_secret(self, job_id: str, attempt: int, secret_hash: bytes) -> None:
        """Replace the secret of an attempt."""
        await self._database.write(lambda c: _set_secret(c, job_id, attempt, secret_hash))

    async def set_outcome(self, job_id: str, attempt: int, outcome: RunOutcome) -> None:
        """Store how a run says it ended."""
        await self._database.write(
            lambda c: c.execute(
                "UPDATE attempts SET outcome = ? WHERE job = ? AND attempt = ?",
                (encode_outcome(outcome), job_id, attempt),
            ),
            reserved=True,
        )

    # Questions

    async def get(self, job_id: str, *, deleted: bool = False) -> Job:
        """Return the job after its last event; NotFound. ``deleted``: also a deleted one."""
        rows = await self._query(
            "SELECT state, sequence, spec, record FROM jobs WHERE id = ?", job_id
        )
        if rows and (rows[0][0] != DELETED or deleted):
            return decoded(*rows[0][1:])
        raise job_not_found(job_id, deleted=bool(rows))

    async def live(self) -> list[Job]:
        """Return the jobs that have not ended, in the order in which users queued them."""
        marks = ",".join("?" * len(_LIVE))
        sql = (
            f"SELECT sequence, spec, record FROM jobs WHERE state IN ({marks}) ORDER BY number"  # noqa: S608 (question marks only)
        )
        jobs = await self._database.read(lambda c: [decoded(*r) for r in c.execute(sql, _LIVE)])
        return sorted(jobs, key=lambda job: job.queue_sequence)

    async def page(
        self, states: Sequence[State] = (), *, limit: int, before: int | None = None
    ) -> list[tuple[int, Job]]:
        """Return at most ``limit`` jobs, newest first, each with its number.

        ``before``: only jobs with lower numbers. Fewer come where their JSON exceeds
        ``PAGE_BYTES``, but none only where there are none.
        """
        wanted = tuple(states) or tuple(State)
        marks = ",".join("?" * len(wanted))
        sql = (
            f"SELECT number, sequence, spec, record FROM jobs WHERE state IN ({marks}) "  # noqa: S608 (question marks only)
            "AND number < ? ORDER BY number DESC LIMIT ?"
        )
        values = (*wanted, before if before is not None else 2**62, limit)

        def query(connection: sqlite3.Connection) -> list[tuple[int, Job]]:
            jobs, size = [], 0
            for number, sequence, spec, record in connection.execute(sql, values):
                jobs.append((number, decoded(sequence, spec, record)))
                size += len(spec) + len(record)
                if size > PAGE_BYTES:
                    break
            return jobs

        return await self._database.read(query)

    async def newest_ids(self, limit: int) -> list[str]:
        """Return the ids of at most ``limit`` jobs, newest first."""
        sql = "SELECT id FROM jobs WHERE state != ? ORDER BY number DESC LIMIT ?"
        rows = await self._query(sql, DELETED, limit)
        return [job_id for (job_id,) in rows]

    async def request(self, request_id: str) -> tuple[str, str] | None:
        """Return the job id and digest stored with a request id."""
        rows = await self._query("SELECT job, digest FROM requests WHERE id = ?", request_id)
        return (rows[0][0], rows[0][1]) if rows else None

    async def sequence_range(self, job_id: str | None = None) -> tuple[int, int]:
        """Return the lowest sequence after which no event is missing, and the newest event's.

        ``job_id``: only events of this job count as missing.
        """
        return await self._database.read(lambda c: EventTable(c).sequence_range(job_id))

    async def events_after(
        self, sequence: int, *, job_id: str | None = None, limit: int = 200
    ) -> list[Change]:
        """Return the next events of one job or of all, in order."""
        return await self._database.read(
            lambda c: EventTable(c).after(sequence, job_id=job_id, limit=limit)
        )

    async def secret_hash(self, job_id: str, attempt: int) -> bytes | None:
        """Return the hash of an attempt's secret."""
        rows = await self._query(
            "SELECT secret_hash FROM attempts WHERE job = ? AND attempt = ?", job_id, attempt
        )
        return bytes(rows[0][0]) if rows else None

    async def outcome(self, job_id: str, attempt: int) -> RunOutcome | None:
        """Return how the attempt's run said it ended."""
        rows = await self._query(
            "SELECT outcome FROM attempts WHERE job = ? AND attempt = ?", job_id, attempt
        )
        return decode_outcome(json.loads(rows[0][0])) if rows and rows[0][0] else None

    async def versions(self, job_id: str) -> VersionIndex:
        """Return the versions that are kept, with their labels; JobNotFound."""
        index = await self._database.read(lambda c: VersionTables(c).index(job_id))
        if not index.kept:
            await self.get(job_id)
        return index

    async def version_of(
        self, job_id: str, attempt: int, step: int, rollbacks: int = 0
    ) -> Version | None:
        """Return the version that an attempt published after a step, kept or not."""
        return await self._database.read(
            lambda c: VersionTables(c).of_step(job_id, attempt, step, rollbacks)
        )

    async def lineage(self, job_id: str, *, limit: int, before: int) -> list[Version]:
        """Return versions below ``before``, newest first, kept or not."""
        return await self._database.read(
            lambda c: VersionTables(c).lineage(job_id, limit=limit, before=before)
        )

    async def jobs_labelled(self, label: str) -> list[str]:
        """Return the ids of at most ten jobs that have this label now."""
        return await self._database.read(
            lambda c: VersionTables(c).jobs_labelled(label, limit=10)
        )

    async def labels(self, job_id: str, *, moves: int) -> tuple[VersionIndex, list[LabelMove]]:
        """Return a job's labels and their last ``moves`` of the same moment, oldest first."""

        def query(connection: sqlite3.Connection) -> tuple[VersionIndex, list[LabelMove]]:
            tables = VersionTables(connection)
            return tables.index(job_id), tables.moves(job_id, limit=moves)

        return await self._database.read(query)

    async def kept_versions(self) -> dict[str, list[int]]:
        """Return the numbers of the versions that are kept, ascending, by job."""
        return await self._database.read(lambda c: VersionTables(c).kept())

    # Inside

    def _insert_event(self, connection: sqlite3.Connection, job: Job, event: Event) -> Change:
        """Insert an event that leads to this job."""
        return EventTable(connection).insert(job, event, keep=self._events_kept)

    async def _query(self, sql: str, *values: Any) -> Rows:
        return await self._database.read(lambda c: c.execute(sql, values).fetchall())


def _set_request(connection: sqlite3.Connection, job_id: str, key: tuple[str, str]) -> None:
    sql = "INSERT INTO requests (id, job, digest) VALUES (?,?,?)"
    try:
        connection.execute(sql, (key[0], job_id, key[1]))
    except sqlite3.IntegrityError as error:
        raise RequestExists(
            f"request_id {key[0]!r} belongs to another request; use a new one"
        ) from error


def _set_secret(
    connection: sqlite3.Connection, job_id: str, attempt: int, secret_hash: bytes
) -> None:
    connection.execute(
        "INSERT INTO attempts (job, attempt, secret_hash) VALUES (?,?,?) "
        "ON CONFLICT (job, attempt) DO UPDATE SET secret_hash = excluded.secret_hash",
        (job_id, attempt, secret_hash),
    )
