"""``dbp serve --recover``: rebuild a damaged database from the files of the jobs.

Each job is rebuilt from its newest source: its record, its rows in the old database, or the
files of its launches. The history of events begins again, so that watchers start over.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from dbp.errors import StateDamaged
from dbp.job.state import Job, State
from dbp.jobs.ended_jobs import DELETED
from dbp.jobs.job_rows import Row, Rows, begin_history, insert_rows
from dbp.jobs.left_files import LeftAttempt, as_left, left_versions, row_of
from dbp.jobs.record_files import RecordFiles
from dbp.jobs.record_mirror import RecordMirror
from dbp.jobs.salvage import SalvagedDatabase, job_of, salvaged
from dbp.storage.atomic_file import PRIVATE, make_folder, rename, sync_folder
from dbp.storage.replacement import finish_replacement, replace_database
from dbp.storage.schema import SCHEMA_VERSION
from dbp.storage.state_folder import StateFolder
from dbp.storage.verification import untouched, verify

# The newest event may be in no file that is left: records follow the commits, without fsync.
# A watcher may hold its sequence, and must not continue after it in the new history.
LOST_EVENTS: Final = 1_000_000

_LAST: Final = 1 << 62
_NOTHING: Final[Rows] = {"versions": [], "label_moves": []}


@dataclass(frozen=True)
class RecoveryReport:
    """Report of a recovery.

    Attributes:
        damage: Why the database was refused.
        jobs: Number of jobs in the new database.
        versions: Number of versions in it whose files are kept.
        kept: The damaged files, under their new names.
        notes: The losses, one text each.
    """

    damage: str
    jobs: int
    versions: int
    kept: tuple[Path, ...]
    notes: tuple[str, ...]


@dataclass
class _Rebuilt:
    """The rows of one job, and its place among the others."""

    place: tuple[int, float]
    rows: Rows
    versions: Rows
    notes: list[str] = field(default_factory=list)


def recover(folder: StateFolder, now: Callable[[], float] = time.time) -> RecoveryReport | None:
    """Rebuild the database of a locked state folder; None if it is not damaged.

    Raises Conflict: another process has it open, or a newer dbp has written it; OSError.
    """
    path = folder.database_file
    try:
        verify(path, RecordMirror(folder).compare, schema=SCHEMA_VERSION)
    except StateDamaged as damage:
        if finish_replacement(path):
            return _finished(path, str(damage))
        with salvaged(path) as database:
            recovery = _Recovery(folder, database, now())
            kept = replace_database(path, recovery.fill)
            return recovery.report(str(damage), kept)
    return None


def _finished(path: Path, damage: str) -> RecoveryReport:
    """Return the report of a recovery that had rebuilt the database before it was cut."""
    with untouched(path) as connection:
        count = "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM versions WHERE kept)"
        jobs, versions = connection.execute(count).fetchone()
    note = "the losses of an earlier recovery, which rebuilt this database and was cut"
    return RecoveryReport(damage, jobs, versions, (), (note,))


@final
class _Recovery:
    """Collects the rows of all jobs."""

    def __init__(self, folder: StateFolder, database: SalvagedDatabase, now: float) -> None:
        self._folder, self._database, self._now = folder, database, now
        self._records = RecordFiles(folder.records_folder)
        self._notes = ["the history of events: watchers start over from the present state"]
        if not database.intact:
            self._notes.append("the entries of versions whose files are no longer kept")
        self._newest = 0
        ids = self._records.ids() | database.sequences.keys() | set(folder.job_ids())
        found = [job for job in map(self._rebuild, sorted(ids)) if job is not None]
        self._jobs = sorted(found, key=lambda job: job.place)

    def fill(self, connection: sqlite3.Connection) -> None:
        """Insert the rows of all jobs, in the order of their creation."""
        for job in self._jobs:
            insert_rows(connection, job.rows | job.versions)
        begin_history(connection, self._newest + LOST_EVENTS, self._now)

    def report(self, damage: str, kept: list[Path]) -> RecoveryReport:
        """Return the report; ``kept``: the damaged files."""
        versions = sum(
            bool(row["kept"]) for job in self._jobs for row in job.versions["versions"]
        )
        notes = [*self._notes, *(note for job in self._jobs for note in job.notes)]
        return RecoveryReport(damage, len(self._jobs), versions, tuple(kept), tuple(notes))

    def _rebuild(self, job_id: str) -> _Rebuilt | None:
        """Return the rows of a job from its newest source; None if no source has its spec."""
        recorded = self._records.rows(job_id)
        stored = self._database.sequences.get(job_id, 0)
        self._newest = max(self._newest, stored, recorded[0] if recorded else 0)
        if recorded is None:
            found = self._uncertain(job_id)
            if found is None:
                self._lose(job_id)
                return None
            return self._with_versions(job_id, *found)
        if self._database.intact and stored > recorded[0]:
            rows = self._database.rows(job_id)
            if rows is not None:  # killed between the commit and the record
                return self._with_versions(job_id, rows, [], stored_only=True)
        return self._with_versions(job_id, recorded[1], [])

    def _uncertain(self, job_id: str) -> tuple[Rows, list[str]] | None:
        """Return the rows of a job without a record, from the old database or its launches."""
        attempt = LeftAttempt.newest(self._folder.jobs_folder / job_id)
        rows = self._database.rows(job_id)
        if rows and rows["jobs"][0]["state"] == DELETED:
            return rows, []
        job = job_of(rows["jobs"][0]) if rows else attempt.job(job_id) if attempt else None
        if job is None:
            return None
        settled = as_left(job, attempt, self._now)
        rows = {
            **(rows or {}),
            "jobs": [{**(rows["jobs"][0] if rows else {}), **row_of(settled)}],
        }
        if attempt is not None:
            known = [
                row for row in rows.get("attempts", []) if row["attempt"] != attempt.number
            ]
            rows["attempts"] = [*known, attempt.row(job_id)]
        if settled.state is State.FAILED and settled.state is not job.state:
            return rows, [f"job {job_id}: how it ended: it is FAILED with STATE_LOST"]
        return rows, [f"job {job_id}: changes after its newest known state, {settled.state}"]

    def _lose(self, job_id: str) -> None:
        """Move the folder of a job aside whose spec and state are unknown."""
        folder = self._folder.jobs_folder / job_id
        if not folder.exists() and not self._records.exists(job_id):
            self._notes.append(
                f"the row of {job_id!r} in the old database, which is unreadable"
            )
            return
        self._notes.append(f"job {job_id}: its spec; its files are in lost/{job_id}")
        lost = make_folder(self._folder.path / "lost", PRIVATE)
        if folder.exists():
            rename(folder, lost / job_id)
            sync_folder(folder.parent)
        self._records.move(job_id, lost)

    def _with_versions(
        self, job_id: str, rows: Rows, notes: list[str], *, stored_only: bool = False
    ) -> _Rebuilt:
        row = rows["jobs"][0]
        job = job_of(row)
        versions, more = self._versions(job_id, job, stored_only=stored_only)
        notes = [*notes, *more, *self._missing(job_id, versions)]
        number = row.get("number")
        place = number if isinstance(number, int) else _LAST
        return _Rebuilt((place, job.create_time if job else 0.0), rows, versions, notes)

    def _versions(
        self, job_id: str, job: Job | None, *, stored_only: bool
    ) -> tuple[Rows, list[str]]:
        """Return the rows of a job's versions, from its record, the database or its files."""
        stored = self._database.versions(job_id) if self._database.intact else None
        recorded = None if stored_only else self._records.versions(job_id)
        if recorded is not None and stored is not None:
            newer = _newest(stored) > _newest(recorded)
            return (stored if newer else _merged(recorded, stored)), []
        if recorded is not None or stored is not None:
            return recorded or stored or _NOTHING, []
        if job is None or not self._folder.parameters_folder(job_id).is_dir():
            return _NOTHING, []
        rows, notes = left_versions(self._folder, job)
        return rows, [f"job {job_id}: labels and pins of its versions", *notes]

    def _missing(self, job_id: str, versions: Rows) -> list[str]:
        """Mark versions whose files are gone as not kept; return a note on each."""
        folder, notes = self._folder.parameters_folder(job_id), []
        for row in versions["versions"]:
            if row["kept"] and not (folder / f"{row['version']}.safetensors").exists():
                row |= {"kept": 0, "pinned": 0}
                notes.append(f"job {job_id}: version {row['version']}: its file is missing")
        return notes


def _merged(recorded: Rows, stored: Rows) -> Rows:
    """Return the recorded rows, and those of an older database that the record leaves out.

    The record has the kept versions and the last move of each label.
    """
    known, newest = {row["version"] for row in recorded["versions"]}, _newest(recorded)
    older = [
        {**row, "kept": 0, "pinned": 0}
        for row in stored["versions"]
        if row["version"] not in known and int(str(row["version"])) < newest
    ]
    moves = [_without_number(row) for row in recorded["label_moves"]]
    earlier = [row for row in stored["label_moves"] if _without_number(row) not in moves]
    return {
        "versions": [*older, *recorded["versions"]],
        "label_moves": [*earlier, *recorded["label_moves"]],
    }


def _newest(versions: Rows) -> int:
    return max((int(str(row["version"])) for row in versions["versions"]), default=0)


def _without_number(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "sequence"}
