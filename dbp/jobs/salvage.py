"""Read the rows of each job that are left in a damaged or outdated database."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final, TypeVar, cast, final

from dbp.errors import DataLoss
from dbp.job.job_json import decode_job
from dbp.job.state import Job
from dbp.jobs.job_rows import Row, Rows, job_rows, sequences, tables_of_jobs, version_rows
from dbp.storage.verification import is_intact, untouched

T = TypeVar("T")

_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]*")


@final
class SalvagedDatabase:
    """Rows of a database that the service refused.

    ``intact``: the rows are those that were committed, although later commits may be missing.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Read from this connection, which changes nothing."""
        self._connection = connection
        self.intact = _or(False, lambda: is_intact(connection))
        none: dict[object, object] = {}
        found = _or(none, lambda: cast("dict[object, object]", sequences(connection)))
        # A damaged id could be a path to anything.
        self.sequences = {
            job_id: sequence
            for job_id, sequence in found.items()
            if isinstance(job_id, str) and isinstance(sequence, int) and _ID.fullmatch(job_id)
        }

    def rows(self, job_id: str) -> Rows | None:
        """Return the rows of a job without its versions; None if they are unreadable."""
        none: Rows | None = None
        rows = _or(none, lambda: self._rows(job_id))
        return rows if rows and rows["jobs"] and job_of(rows["jobs"][0]) is not None else None

    def _rows(self, job_id: str) -> Rows:
        return job_rows(self._connection, job_id, tables_of_jobs(self._connection))

    def versions(self, job_id: str) -> Rows | None:
        """Return all rows of a job's versions and labels; None if they are unreadable."""
        return _or(None, lambda: version_rows(self._connection, job_id, all_rows=True))


@contextmanager
def salvaged(path: Path) -> Iterator[SalvagedDatabase]:
    """Yield the readable rows of the database at ``path``, which stays as it is."""
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(untouched(path))
        except (sqlite3.Error, DataLoss):
            connection = stack.enter_context(closing(sqlite3.connect(":memory:")))
        yield SalvagedDatabase(connection)


def job_of(row: Row) -> Job | None:
    """Return the job in a row of the table; None if the row is damaged."""
    try:
        spec, sequence = json.loads(str(row["spec"])), int(str(row["sequence"]))
        job = decode_job(str(row["record"]), spec=spec, sequence=sequence)
    except (KeyError, ValueError, TypeError):
        return None
    return job if job.id == row["id"] else None


def _or(otherwise: T, read: Callable[[], T]) -> T:
    """Return ``read()``; ``otherwise`` if damage stops it."""
    try:
        return read()
    except (sqlite3.Error, ValueError, TypeError, OverflowError):
        return otherwise
