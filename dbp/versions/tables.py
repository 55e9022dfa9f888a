"""SQL for parameter versions and labels; the store opens the transactions."""

from __future__ import annotations

import sqlite3
from typing import Any, Final, final

from dbp.job.state import LabelMove, Version
from dbp.versions.index import VersionChange, VersionIndex

# Entries of a job's chain that stay when the bytes are gone; the oldest go first.
LINEAGE_KEPT: Final = 10_000
# Moves of a job's labels that stay; and, however old, the last one of each label that is at
# a version or can be moved back to one.
MOVES_KEPT: Final = 1_000

_COLUMNS: Final = (
    "version, step, attempt, digest, size_bytes, publish_time, final, previous_digest, "
    "spec_digest, rollbacks"
)


@final
class VersionTables:
    """Versions and label moves, on the store's connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def apply(self, job_id: str, change: VersionChange) -> None:
        """Write a change, inside the caller's transaction."""
        if change.published is not None:
            self._put(job_id, change.published)
        if change.label:
            self._move(job_id, change.label, change.version, change.time)
        if change.pinned is not None:
            self._connection.execute(
                "UPDATE versions SET pinned = ? WHERE job = ? AND version = ?",
                (change.pinned, job_id, change.version),
            )
        self._connection.executemany(
            "UPDATE versions SET kept = 0, pinned = 0 WHERE job = ? AND version = ?",
            [(job_id, number) for number in change.evicted],
        )

    def _put(self, job_id: str, version: Version) -> None:
        """Insert a version, or update a known one."""
        self._connection.execute(
            f"INSERT INTO versions (job, {_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?) "  # noqa: S608 (fixed words)
            "ON CONFLICT (job, version) DO UPDATE SET final = excluded.final",
            (
                job_id, version.version, version.step, version.attempt, version.digest,
                version.size_bytes, version.publish_time, version.final,
                version.previous_digest, version.spec_digest, version.rollbacks,
            ),
        )  # fmt: skip
        if version.version % 100 == 0:
            self._connection.execute(
                "DELETE FROM versions WHERE job = ? AND version <= ? AND NOT kept",
                (job_id, version.version - LINEAGE_KEPT),
            )

    def _move(self, job_id: str, label: str, version: int, time: float) -> None:
        """Insert a move of a label."""
        self._connection.execute(
            "INSERT INTO label_moves (job, label, version, previous, time) VALUES (?1, ?2, ?3, "
            "coalesce((SELECT version FROM label_moves WHERE job = ?1 AND label = ?2 "
            "ORDER BY sequence DESC LIMIT 1), 0), ?4)",
            (job_id, label, version, time),
        )
        self._prune_moves(job_id)

    def _prune_moves(self, job_id: str) -> None:
        """Delete the oldest moves once there are twice as many as are kept."""
        (count,) = self._connection.execute(
            "SELECT count(*) FROM label_moves WHERE job = ?", (job_id,)
        ).fetchone()
        if count < 2 * MOVES_KEPT:
            return
        self._connection.execute(
            "DELETE FROM label_moves WHERE job = ?1 AND sequence <= ("
            "SELECT sequence FROM label_moves WHERE job = ?1 "
            "ORDER BY sequence DESC LIMIT 1 OFFSET ?2) AND sequence NOT IN ("
            "SELECT newest FROM (SELECT max(sequence) AS newest, version, previous "
            "FROM label_moves WHERE job = ?1 GROUP BY label) WHERE version OR previous)",
            (job_id, MOVES_KEPT),
        )

    def index(self, job_id: str) -> VersionIndex:
        """Return the versions that are kept, and their labels."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS}, pinned FROM versions WHERE job = ? AND kept "  # noqa: S608 (fixed words)
            "ORDER BY version",
            (job_id,),
        ).fetchall()
        labels = self._connection.execute(
            "SELECT label, version, previous, time, max(sequence) FROM label_moves "
            "WHERE job = ? GROUP BY label ORDER BY label",
            (job_id,),
        ).fetchall()
        return VersionIndex(
            job_id=job_id,
            kept=tuple(_version(row[:-1]) for row in rows),
            pinned=frozenset(row[0] for row in rows if row[-1]),
            labels={label: version for label, version, *_ in labels if version},
            left={label: previous for label, _, previous, *_ in labels if previous},
            moved={label: time for label, version, left, time, _ in labels if version or left},
        )

    def kept(self) -> dict[str, list[int]]:
        """Return the numbers of the versions that are kept, ascending, by job."""
        found: dict[str, list[int]] = {}
        for job, version in self._connection.execute(
            "SELECT job, version FROM versions WHERE kept ORDER BY job, version"
        ):
            found.setdefault(job, []).append(version)
        return found

    def of_step(
        self, job_id: str, attempt: int, step: int, rollbacks: int = 0
    ) -> Version | None:
        """Return the newest version of a step, after this many roll-backs."""
        row = self._connection.execute(
            f"SELECT {_COLUMNS} FROM versions "  # noqa: S608 (fixed words)
            "WHERE job = ? AND attempt = ? AND rollbacks = ? AND step = ? "
            "ORDER BY version DESC LIMIT 1",
            (job_id, attempt, rollbacks, step),
        ).fetchone()
        return None if row is None else _version(row)

    def lineage(self, job_id: str, *, limit: int, before: int) -> list[Version]:
        """Return versions, newest first, kept or not."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM versions WHERE job = ? AND version < ? "  # noqa: S608 (fixed words)
            "ORDER BY version DESC LIMIT ?",
            (job_id, before, limit),
        )
        return [_version(row) for row in rows]

    def jobs_labelled(self, label: str, *, limit: int) -> list[str]:
        """Return jobs whose last move of the label was to a version, newest move first.

        Two index look-ups per job, however often the label has moved.
        """
        rows = self._connection.execute(
            "WITH RECURSIVE labelled (job) AS ("
            " SELECT min(job) FROM label_moves WHERE label = :label"
            " UNION ALL SELECT (SELECT min(job) FROM label_moves"
            "  WHERE label = :label AND job > labelled.job)"
            " FROM labelled WHERE job IS NOT NULL"
            "), newest (sequence) AS ("
            " SELECT (SELECT max(sequence) FROM label_moves"
            "  WHERE label = :label AND job = labelled.job)"
            " FROM labelled WHERE job IS NOT NULL"
            ") SELECT job FROM newest JOIN label_moves USING (sequence) WHERE version"
            " ORDER BY sequence DESC LIMIT :limit",
            {"label": label, "limit": limit},
        )
        return [job for (job,) in rows]

    def moves(self, job_id: str, *, limit: int) -> list[LabelMove]:
        """Return the last moves, oldest first."""
        rows = self._connection.execute(
            "SELECT label, version, time, previous FROM label_moves WHERE job = ? "
            "ORDER BY sequence DESC LIMIT ?",
            (job_id, limit),
        ).fetchall()
        return [LabelMove(*row) for row in reversed(rows)]


def _version(row: tuple[Any, ...]) -> Version:
    number, step, attempt, digest, size, time, final_, *rest = row
    return Version(number, step, attempt, digest, size, time, bool(final_), *rest)
