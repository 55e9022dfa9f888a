"""SQL for ended jobs: find those that may be deleted, and remove the rows of a deleted one.

The row of a deleted job stays for a while, with the state DELETED and only the name of its
spec: its id is not used again, its request ids are recognized, and watchers still receive its
events. ``forget_oldest`` bounds the number of such rows.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from dbp.job.labels import BEST
from dbp.job.state import EventKind, Job, State
from dbp.storage.database import Database

# In the column ``state`` only: it is no state of a job.
DELETED: Final = "DELETED"
DELETED_KEPT: Final = 10_000
FORGOTTEN_AT_ONCE: Final = 1_000  # in one transaction, with as many files to remove

# Of an ended job in ``jobs``: a version is pinned, or a label of a user is at one.
_PROTECTED: Final = (
    "(EXISTS (SELECT 1 FROM versions WHERE versions.job = jobs.id AND pinned) OR EXISTS ("
    "SELECT 1 FROM label_moves AS moves WHERE moves.job = jobs.id AND label != :best "
    "AND version != 0 AND sequence = (SELECT max(sequence) FROM label_moves AS newest "
    "WHERE newest.job = moves.job AND newest.label = moves.label)))"
)


@dataclass(frozen=True)
class EndedJob:
    """An ended job: its end in Unix seconds, and the sequence of its last event."""

    id: str
    end_time: float
    sequence: int


@final
class EndedJobs:
    """Queries of ended and deleted jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unprotected(self, before: float | None = None) -> list[EndedJob]:
        """Return the ended jobs without a pin or a label of a user, by the time of their end.

        ``before``: only those that ended at this Unix time or earlier.
        """
        sql = (
            "SELECT id, end_time, sequence FROM jobs WHERE end_time IS NOT NULL "  # noqa: S608 (fixed words)
            f"AND end_time <= coalesce(:before, end_time) AND NOT {_PROTECTED} "
            "ORDER BY end_time, number"
        )
        values = {"before": before, "best": BEST}
        return await self._database.read(
            lambda c: [EndedJob(*row) for row in c.execute(sql, values)]
        )

    async def is_protected(self, job_id: str) -> bool:
        """Return whether a pin or a label of a user protects the job."""
        sql = f"SELECT 1 FROM jobs WHERE id = :id AND {_PROTECTED}"  # noqa: S608 (fixed words)
        values = {"id": job_id, "best": BEST}
        return await self._database.read(
            lambda c: c.execute(sql, values).fetchone() is not None
        )

    async def is_stored(self, job_id: str) -> bool:
        """Return whether there is such a job, and it is not deleted."""
        sql = "SELECT 1 FROM jobs WHERE id = ? AND state != ?"
        return await self._database.read(
            lambda c: c.execute(sql, (job_id, DELETED)).fetchone() is not None
        )

    async def of_owner(self, owner: str) -> list[str]:
        """Return the ids of an owner's jobs, those that have not ended as well."""
        sql = (
            "SELECT id FROM jobs WHERE state != ? "
            "AND coalesce(json_extract(record, '$.owner'), '') = ?"
        )
        return await self._database.read(
            lambda c: [row[0] for row in c.execute(sql, (DELETED, owner))]
        )

    async def deleted(self, job_ids: Sequence[str]) -> list[str]:
        """Return those of the ids whose jobs were deleted."""
        sql = "SELECT jobs.id FROM jobs JOIN json_each(?) ON jobs.id = value WHERE state = ?"
        values = (json.dumps(job_ids), DELETED)
        return await self._database.read(lambda c: [row[0] for row in c.execute(sql, values)])

    async def forget_oldest(self, job_ids: Sequence[str]) -> int:
        """Remove the rows of the oldest deleted jobs; return of how many.

        The newest ``DELETED_KEPT`` stay, those with events, and those of ``job_ids``, which
        still have files.
        """
        files = json.dumps(job_ids)
        return await self._database.write(lambda c: _forget_oldest(c, files))


def note_rows(connection: sqlite3.Connection, kind: EventKind, job: Job) -> None:
    """Change the other rows of a job with the event that led to it."""
    if kind is EventKind.DELETED:
        _bury(connection, job)
    elif job.state in (State.QUEUED, State.PAUSED):  # it will publish more
        connection.execute("UPDATE versions SET final = 0 WHERE job = ? AND final", (job.id,))


def _bury(connection: sqlite3.Connection, job: Job) -> None:
    """Remove the rows of a job whose deletion was recorded, but for its own and its events."""
    for table in ("attempts", "label_moves", "versions"):
        connection.execute(f"DELETE FROM {table} WHERE job = ?", (job.id,))  # noqa: S608 (fixed words)
    connection.execute(
        "UPDATE jobs SET state = ?, spec = ?, end_time = NULL WHERE id = ?",
        (DELETED, json.dumps({"name": job.spec.get("name", "")}), job.id),
    )


def _forget_oldest(connection: sqlite3.Connection, files: str) -> int:
    """Remove rows as ``EndedJobs.forget_oldest`` does; ``files``: the ids as JSON."""
    found = connection.execute(
        "SELECT id FROM jobs WHERE state = ?1 AND number < ("
        "SELECT number FROM jobs WHERE state = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2"
        ") AND NOT EXISTS (SELECT 1 FROM events WHERE events.job = jobs.id) "
        "AND id NOT IN (SELECT value FROM json_each(?3)) ORDER BY number LIMIT ?4",
        (DELETED, DELETED_KEPT - 1, files, FORGOTTEN_AT_ONCE),
    ).fetchall()
    connection.executemany("DELETE FROM requests WHERE job = ?", found)
    connection.executemany("DELETE FROM jobs WHERE id = ?", found)
    return len(found)
