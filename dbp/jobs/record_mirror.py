"""Keep the record files of jobs up to date, and compare the database with them at start."""

from __future__ import annotations

import sqlite3
from typing import Final, final

from dbp.jobs.ended_jobs import DELETED
from dbp.jobs.job_rows import job_rows, sequences, tables_of_jobs, version_rows
from dbp.jobs.record_files import RecordFiles
from dbp.storage.contents import Touched
from dbp.storage.database import Mirror
from dbp.storage.state_folder import StateFolder
from dbp.storage.verification import damaged

_VERSION_TABLES: Final = frozenset({"versions", "label_moves"})
_ALL_TABLES: Final = frozenset({"jobs", *_VERSION_TABLES})


@final
class RecordMirror(Mirror):
    """Copies the rows of changed jobs to their record files."""

    def __init__(self, folder: StateFolder) -> None:
        """Keep the record files of this state folder."""
        self._folder = folder
        self._files = RecordFiles(folder.records_folder)
        self._behind: dict[str, frozenset[str]] = {}
        self._tables: tuple[str, ...] = ()

    def compare(self, connection: sqlite3.Connection) -> None:
        known = sequences(connection)
        recorded = {job_id: self._files.sequence(job_id) for job_id in self._files.ids()}
        forgotten = set(filter(self._is_deleted, recorded.keys() - known.keys()))
        self._behind.update(dict.fromkeys(forgotten, _ALL_TABLES))  # a kill came in between
        found = recorded.keys() | set(self._folder.job_ids())
        missing = sorted(found - known.keys() - forgotten)
        if missing:
            raise damaged(
                self._folder.database_file,
                f"{len(missing)} of the jobs in {self._folder.path} are not in it, such as "
                f"{missing[0]}",
            )
        for job_id, sequence in known.items():
            if recorded.get(job_id, 0) > sequence and self._files.rows(job_id) is not None:
                raise damaged(
                    self._folder.database_file,
                    f"job {job_id} is at event {sequence} in it, and at event "
                    f"{recorded[job_id]} in the job's record",
                )
            if recorded.get(job_id) != sequence:  # a kill came between commit and record
                self._behind[job_id] = _ALL_TABLES

    def after_commit(self, connection: sqlite3.Connection, touched: Touched) -> None:
        for job_id, tables in touched.items():
            self._behind[job_id] = self._behind.get(job_id, frozenset()) | tables
        for job_id in list(self._behind):  # those of an earlier commit, if the disk was full
            self._copy(connection, job_id)
            del self._behind[job_id]

    def _copy(self, connection: sqlite3.Connection, job_id: str) -> None:
        self._tables = self._tables or tables_of_jobs(connection)
        rows = job_rows(connection, job_id, self._tables)
        if not rows["jobs"]:
            self._files.remove(job_id)
            return
        sequence = rows["jobs"][0]["sequence"]
        changed = self._behind[job_id] & _VERSION_TABLES
        versions = version_rows(connection, job_id) if changed else None
        assert isinstance(sequence, int)  # noqa: S101 (the schema's)
        self._files.write(job_id, sequence, rows, versions)

    def _is_deleted(self, job_id: str) -> bool:
        """Return whether the files of a job say that it was deleted."""
        found = self._files.rows(job_id)
        return found is not None and found[1]["jobs"][0]["state"] == DELETED
