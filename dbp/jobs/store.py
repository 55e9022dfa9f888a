"""The service's SQLite file: jobs, events, requests, attempts, versions. All SQL is here.

Every method that changes something is one transaction, durable when it returns.
``dbp.job.state.advance`` decides which event may follow which.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, final

from dbp.errors import AlreadyExists, DataLoss, JobNotFound, ResourceExhausted, Unavailable
from dbp.job.job_json import decode_job, decode_outcome, encode_job, encode_outcome
from dbp.job.state import Event, EventKind, Job, LabelMove, RunOutcome, State, Version, advance
from dbp.jobs.watch_items import Change
from dbp.storage.schema import open_database
from dbp.versions.index import VersionChange, VersionIndex
from dbp.versions.tables import VersionTables

EVENTS_KEPT: Final = 50_000
_PRUNE_EVERY: Final = 1_000
_LIVE: Final = tuple(state for state in State if not state.terminal)


@final
class Store:
    """Jobs, their events, requests, attempts and versions. One thread, one event loop."""

    def __init__(self, path: Path, *, events_kept: int = EVENTS_KEPT) -> None:
        """Open the file at ``path``, made if absent. Raises DataLoss or Conflict."""
        self.path = path
        self._events_kept = events_kept
        self._connection = open_database(path)
        self._versions = VersionTables(self._connection)

    def close(self) -> None:
        """Close the file; the store cannot be used after it."""
        self._connection.close()

    # Changes

    def create(
        self,
        job: Job,
        *,
        request: tuple[str, str] | None = None,
        secret_hash: bytes | None = None,
    ) -> Change:
        """Insert a new job; ``request`` is its request id and digest. AlreadyExists: the id is
        taken.
        """
        with self._transaction():
            try:
                self._connection.execute(
                    "INSERT INTO jobs (id, state, sequence, spec, record) VALUES (?,?,0,?,'')",
                    (job.id, job.state, json.dumps(job.spec)),
                )
            except sqlite3.IntegrityError as error:
                raise AlreadyExists(f"job {job.id} exists") from error
            change = self._insert_event(job, EventKind.CREATED, job.create_time)
            if request is not None:
                self._connection.execute(
                    "INSERT INTO requests (id, job, digest) VALUES (?,?,?)",
                    (request[0], job.id, request[1]),
                )
            if secret_hash is not None:
                self._set_secret(job.id, job.attempt, secret_hash)
        return change

    def append(
        self,
        job: Job,
        event: Event,
        *,
        secret_hash: bytes | None = None,
        versions: VersionChange | None = None,
    ) -> Change:
        """Apply an event and return the change; WrongState if the event is not allowed.

        Stored with it: the new attempt's ``secret_hash``; the change of the job's versions.
        """
        after = advance(job, event)
        with self._transaction():
            change = self._insert_event(after, event.kind, event.time)
            if secret_hash is not None:
                self._set_secret(after.id, after.attempt, secret_hash)
            if versions is not None:
                self._versions.apply(after.id, versions)
        return change

    def change_versions(self, job_id: str, change: VersionChange) -> None:
        """Store a change of a job's labels or pins."""
        with self._transaction():
            self._versions.apply(job_id, change)

    def set_secret(self, job_id: str, attempt: int, secret_hash: bytes) -> None:
        """Replace the secret of an attempt."""
        with self._transaction():
            self._set_secret(job_id, attempt, secret_hash)

    def set_outcome(self, job_id: str, attempt: int, outcome: RunOutcome) -> None:
        """Store how a run says it ended."""
        with self._transaction():
            self._connection.execute(
                "UPDATE attempts SET outcome = ? WHERE job = ? AND attempt = ?",
                (encode_outcome(outcome), job_id, attempt),
            )

    # Questions

    def get(self, job_id: str) -> Job:
        """Return the job after its last event; NotFound."""
        rows = self._query("SELECT sequence, spec, record FROM jobs WHERE id = ?", job_id)
        if not rows:
            raise JobNotFound(
                f"job {job_id}: there is no such job; list them: dbp jobs", job=job_id
            )
        return _job(*rows[0])

    def live(self) -> list[Job]:
        """Return the jobs that have not ended, oldest first."""
        marks = ",".join("?" * len(_LIVE))
        sql = (
            f"SELECT sequence, spec, record FROM jobs WHERE state IN ({marks}) ORDER BY number"  # noqa: S608 (question marks only)
        )
        return [_job(*row) for row in self._query(sql, *_LIVE)]

    def page(
        self, states: Sequence[State] = (), *, limit: int, before: int | None = None
    ) -> Generator[tuple[int, Job], None, None]:
        """Yield at most ``limit`` jobs, newest first, each with its number.

        ``before``: only jobs with lower numbers. A row is read when it is asked for, so a
        caller that stops early does not load the specs of the others.
        """
        wanted = tuple(states) or tuple(State)
        marks = ",".join("?" * len(wanted))
        sql = (
            f"SELECT number, sequence, spec, record FROM jobs WHERE state IN ({marks}) "  # noqa: S608 (question marks only)
            "AND number < ? ORDER BY number DESC LIMIT ?"
        )
        values = (*wanted, before if before is not None else 2**62, limit)
        with self._reading():
            for number, *rest in self._connection.execute(sql, values):
                yield number, _job(*rest)

    def newest_ids(self, limit: int) -> list[str]:
        """Return the ids of at most ``limit`` jobs, newest first."""
        rows = self._query("SELECT id FROM jobs ORDER BY number DESC LIMIT ?", limit)
        return [job_id for (job_id,) in rows]

    def request(self, request_id: str) -> tuple[str, str] | None:
        """Return the job id and digest stored with a request id."""
        rows = self._query("SELECT job, digest FROM requests WHERE id = ?", request_id)
        return (rows[0][0], rows[0][1]) if rows else None

    def sequence_range(self) -> tuple[int, int]:
        """Return the lowest sequence from which no event is missing, and the newest."""
        ((oldest, newest),) = self._query("SELECT min(sequence), max(sequence) FROM events")
        return (oldest - 1, newest) if newest is not None else (0, 0)

    def events_after(
        self, sequence: int, *, job_id: str | None = None, limit: int = 200
    ) -> list[Change]:
        """Return the next events of one job or of all, in order."""
        condition, values = ("AND job = ?", [job_id]) if job_id else ("", [])
        sql = (
            "SELECT events.sequence, time, kind, spec, events.record FROM events "  # noqa: S608 (fixed words only)
            f"JOIN jobs ON jobs.id = job WHERE events.sequence > ? {condition} "
            "ORDER BY events.sequence LIMIT ?"
        )
        return [
            Change(number, time, EventKind(kind), _job(number, spec, record))
            for number, time, kind, spec, record in self._query(sql, sequence, *values, limit)
        ]

    def secret_hash(self, job_id: str, attempt: int) -> bytes | None:
        """Return the hash of an attempt's secret."""
        rows = self._query(
            "SELECT secret_hash FROM attempts WHERE job = ? AND attempt = ?", job_id, attempt
        )
        return bytes(rows[0][0]) if rows else None

    def outcome(self, job_id: str, attempt: int) -> RunOutcome | None:
        """Return how the attempt's run said it ended."""
        rows = self._query(
            "SELECT outcome FROM attempts WHERE job = ? AND attempt = ?", job_id, attempt
        )
        return decode_outcome(json.loads(rows[0][0])) if rows and rows[0][0] else None

    def versions(self, job_id: str) -> VersionIndex:
        """Return the versions that are kept, with their labels."""
        with self._reading():
            return self._versions.index(job_id)

    def version_of(
        self, job_id: str, attempt: int, step: int, rollbacks: int = 0
    ) -> Version | None:
        """Return the version that an attempt published after a step, kept or not."""
        with self._reading():
            return self._versions.of_step(job_id, attempt, step, rollbacks)

    def lineage(self, job_id: str, *, limit: int, before: int) -> list[tuple[Version, bool]]:
        """Return versions below ``before``, newest first, and whether each is kept."""
        with self._reading():
            return self._versions.lineage(job_id, limit=limit, before=before)

    def jobs_labelled(self, label: str) -> list[str]:
        """Return the ids of at most ten jobs that have this label now."""
        with self._reading():
            return self._versions.jobs_labelled(label, limit=10)

    def label_moves(self, job_id: str, *, limit: int) -> list[LabelMove]:
        """Return the last moves of a job's labels, oldest first."""
        with self._reading():
            return self._versions.moves(job_id, limit=limit)

    # Inside

    def _insert_event(self, job: Job, kind: EventKind, time: float) -> Change:
        record = encode_job(job)
        cursor = self._connection.execute(
            "INSERT INTO events (job, time, kind, record) VALUES (?,?,?,?)",
            (job.id, time, kind, record),
        )
        sequence = int(cursor.lastrowid or 0)
        self._connection.execute(
            "UPDATE jobs SET state = ?, sequence = ?, record = ? WHERE id = ?",
            (job.state, sequence, record, job.id),
        )
        if sequence % _PRUNE_EVERY == 0:
            self._connection.execute(
                "DELETE FROM events WHERE sequence <= ?", (sequence - self._events_kept,)
            )
        return Change(sequence, time, kind, dataclasses.replace(job, sequence=sequence))

    def _set_secret(self, job_id: str, attempt: int, secret_hash: bytes) -> None:
        self._connection.execute(
            "INSERT INTO attempts (job, attempt, secret_hash) VALUES (?,?,?) "
            "ON CONFLICT (job, attempt) DO UPDATE SET secret_hash = excluded.secret_hash",
            (job_id, attempt, secret_hash),
        )

    def _query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._reading():
            return self._connection.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise DataLoss(f"{self.path}: cannot be read: {error}") from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit at the end of the block; roll back if it raises."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise self._explained(error) from error
            raise

    def _explained(self, error: sqlite3.OperationalError) -> ResourceExhausted | Unavailable:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
            return ResourceExhausted(f"{self.path}: the disk is full; nothing was changed")
        return Unavailable(f"{self.path}: cannot be written: {error}; nothing was changed")


def _job(sequence: int, spec: str, record: str) -> Job:
    return decode_job(record, spec=json.loads(spec), sequence=sequence)
