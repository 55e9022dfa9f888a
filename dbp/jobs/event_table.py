"""SQL for the events of jobs; the store opens the transactions."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from typing import Final, final

from dbp.errors import AlreadyExists
from dbp.job.job_json import decode_detail, decode_job, encode_detail, encode_job
from dbp.job.state import Event, EventKind, Job
from dbp.jobs.watch_items import Change

_PRUNE_EVERY: Final = 1_000
# A job joins the end of the queue with these; one that is requeued returns to its place.
_JOINS_QUEUE: Final = frozenset({EventKind.CREATED, EventKind.RESUMED, EventKind.RETRIED})
# Of all events, kept or not.
_NEWEST: Final = """
SELECT max(
  coalesce((SELECT max(sequence) FROM events), 0),
  coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'events'), 0)
)
"""


@final
class EventTable:
    """Events and the state of jobs after them, on the store's connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def create(self, job: Job, event: Event, *, keep: int) -> Change:
        """Insert a new job with its first event; AlreadyExists if its id is taken.

        Each row is written once. ``keep``: as in ``insert``.
        """
        job = self._numbered(job, event)
        record = encode_job(job)
        try:
            self._connection.execute(
                "INSERT INTO jobs (id, state, sequence, spec, record, end_time) "
                "VALUES (?,?,?,?,?,?)",
                (job.id, job.state, job.sequence, json.dumps(job.spec), record, job.end_time),
            )
        except sqlite3.IntegrityError as error:
            raise AlreadyExists(f"job {job.id} exists") from error
        return self._insert_event(job, event, record, keep)

    def insert(self, job: Job, event: Event, *, keep: int) -> Change:
        """Insert an event that leads to this job; at times delete all but the newest ``keep``
        events of all jobs.
        """
        job = self._numbered(job, event)
        record = encode_job(job)
        self._connection.execute(
            "UPDATE jobs SET state = ?, sequence = ?, record = ?, end_time = ? WHERE id = ?",
            (job.state, job.sequence, record, job.end_time, job.id),
        )
        return self._insert_event(job, event, record, keep)

    def _numbered(self, job: Job, event: Event) -> Job:
        """Return the job with the number that AUTOINCREMENT would give its next event."""
        sequence = self._connection.execute(_NEWEST).fetchone()[0] + 1
        queued = sequence if event.kind in _JOINS_QUEUE else job.queue_sequence
        return dataclasses.replace(job, sequence=sequence, queue_sequence=queued)

    def _insert_event(self, job: Job, event: Event, record: str, keep: int) -> Change:
        """Insert the row of the event that led to a job; delete old events at times."""
        sequence = job.sequence
        self._connection.execute(
            "INSERT INTO events (sequence, job, time, kind, detail, record) "
            "VALUES (?,?,?,?,?,?)",
            (sequence, job.id, event.time, event.kind, encode_detail(event), record),
        )
        if sequence % _PRUNE_EVERY == 0:
            self._prune(sequence - keep)
        return Change(sequence, event.time, event.kind, job, event.label, event.version)

    def _prune(self, last: int) -> None:
        """Delete the events up to ``last``, and note for each job which of its own are gone."""
        self._connection.execute(
            "UPDATE jobs SET pruned = (SELECT max(events.sequence) FROM events "
            "WHERE job = jobs.id AND events.sequence <= ?1) "
            "WHERE id IN (SELECT job FROM events WHERE events.sequence <= ?1)",
            (last,),
        )
        self._connection.execute("DELETE FROM events WHERE sequence <= ?", (last,))

    def sequence_range(self, job_id: str | None) -> tuple[int, int]:
        """Return the lowest sequence after which no event is missing, and the newest event's.

        ``job_id``: only events of this job count as missing.
        """
        oldest, newest = self._connection.execute(
            "SELECT min(sequence), max(sequence) FROM events"
        ).fetchone()
        if newest is None:  # a new database, or one that was rebuilt without a job
            begin = self._connection.execute(
                "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'"
            ).fetchone()[0]
            return begin, begin
        if job_id is None:
            return oldest - 1, newest
        row = self._connection.execute(
            "SELECT pruned FROM jobs WHERE id = ?", (job_id,)
        ).fetchone()
        return 0 if row is None else row[0], newest

    def after(self, sequence: int, *, job_id: str | None, limit: int) -> list[Change]:
        """Return the next events of one job or of all, in order."""
        condition, values = ("AND job = ?", [job_id]) if job_id else ("", [])
        rows = self._connection.execute(
            "SELECT events.sequence, time, kind, detail, spec, events.record FROM events "  # noqa: S608 (fixed words only)
            f"JOIN jobs ON jobs.id = job WHERE events.sequence > ? {condition} "
            "ORDER BY events.sequence LIMIT ?",
            (sequence, *values, limit),
        )
        return [
            Change(n, time, EventKind(kind), decoded(n, spec, record), *decode_detail(detail))
            for n, time, kind, detail, spec, record in rows
        ]


def decoded(sequence: int, spec: str, record: str) -> Job:
    """Return the job in a row, after the event of this sequence."""
    return decode_job(record, spec=json.loads(spec), sequence=sequence)
