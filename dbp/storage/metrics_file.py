"""The SQLite file of the metrics history, on a thread of its own.

It is not the database of jobs: its size must not delay a start of the service, which reads
every row of that one, nor its commits those of jobs. It is opened at its first use. A damaged
file is moved aside and a new one is made: the jobs continue without their earlier history.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, final

from dbp.errors import Conflict, DataLoss, DiskFull, StateGone, Unavailable
from dbp.storage.atomic_file import sync_folder
from dbp.storage.database_copy import copy_database, keep_copy
from dbp.storage.threads import in_thread
from dbp.storage.verification import connect, log_of

METRICS_SCHEMA: Final = 1

_TABLES: Final = """
CREATE TABLE series (
  id INTEGER PRIMARY KEY,
  job TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  UNIQUE (job, name, kind)
);
CREATE TABLE points (
  series INTEGER NOT NULL REFERENCES series (id),
  step INTEGER NOT NULL,
  level INTEGER NOT NULL,
  first_step INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  time REAL NOT NULL,
  counted INTEGER NOT NULL,
  mean REAL,
  minimum REAL,
  maximum REAL,
  last REAL,
  retaken INTEGER NOT NULL,
  PRIMARY KEY (series, step)
) WITHOUT ROWID;
CREATE TABLE levels (
  series INTEGER NOT NULL REFERENCES series (id),
  level INTEGER NOT NULL,
  points INTEGER NOT NULL,
  PRIMARY KEY (series, level)
) WITHOUT ROWID;
CREATE TABLE progress (
  job TEXT PRIMARY KEY,
  attempt INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  run_attempt INTEGER NOT NULL,
  rollbacks INTEGER NOT NULL,
  step INTEGER NOT NULL,
  retaken_until INTEGER NOT NULL
) WITHOUT ROWID;
"""

# SQL that raises the schema by one, by the version it leads to.
_CHANGES: Final[dict[int, str]] = {1: _TABLES}
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

T = TypeVar("T")

log = logging.getLogger("dbp.storage")


@final
class MetricsFile:
    """An SQLite file that is opened at its first use; one thread reads and writes it."""

    def __init__(self, path: Path, check_present: Callable[[], None] = lambda: None) -> None:
        """``check_present``: as in ``Database``."""
        self.path = path
        self._check_present = check_present
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._closed = False

    @property
    def exists(self) -> bool:
        """Whether there is a file: a batch was written before."""
        return self.path.exists()

    async def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``change`` in a transaction; return its result when it is durable.

        Raises DiskFull, Unavailable, Conflict (a newer dbp has written the file) or DataLoss;
        nothing was changed then.
        """
        return await self._run(partial(self._transaction, change))

    async def read(self, query: Callable[[sqlite3.Connection], T], default: T) -> T:
        """Return the result of ``query``; ``default`` if there is no file yet. Raises as
        ``write``.
        """
        return await self._run(partial(self._query, query, default))

    async def copy_to(self, path: Path) -> bool:
        """Write one state of the file to a new file; return False if there is none yet."""
        return await self.read(partial(_copied, path), default=False)

    def close(self) -> None:
        """Finish the running calls and close the file; later calls raise Unavailable."""
        self._closed = True
        self._thread.shutdown()
        with contextlib.suppress(StateGone):
            self._check_present()
            if self._connection is not None:
                self._connection.close()

    async def _run(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise Unavailable("the service is shutting down; try again later")
        self._check_present()
        return await in_thread(partial(self._guarded, work), self._thread)

    def _guarded(self, work: Callable[[], T]) -> T:
        """Run ``work``; map the errors of SQLite and of the system."""
        try:
            return work()
        except OSError as error:
            raise Unavailable(f"{self.path}: {error.strerror}; nothing was changed") from error
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_FULL:
                raise DiskFull(f"{self.path}: the disk is full; nothing was changed") from error
            if code not in _DAMAGE:
                raise Unavailable(f"{self.path}: {error}; nothing was changed") from error
            try:
                self._set_aside()
            except OSError as failed:
                raise Unavailable(
                    f"{self.path}: damaged, and not moved aside: {failed.strerror}"
                ) from failed
            raise DataLoss(
                f"{self.path}: damaged: the metrics before now are lost: {error}"
            ) from error

    def _transaction(self, change: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._opened()
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = change(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise
        return result

    def _query(self, query: Callable[[sqlite3.Connection], T], default: T) -> T:
        if self._connection is None and not self.path.exists():
            return default
        return query(self._opened())

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_metrics(self.path)
        return self._connection

    def _set_aside(self) -> None:
        """Close the damaged file and move it and its log aside."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        for path in (log_of(self.path), self.path):
            with contextlib.suppress(FileNotFoundError):
                path.replace(path.with_name(f"{path.name}.damaged"))
        sync_folder(self.path.parent)
        log.error(
            "%s: damaged; moved to %s.damaged, and the metrics history begins again",
            self.path, self.path.name,
        )  # fmt: skip


def open_metrics(path: Path) -> sqlite3.Connection:
    """Return a connection to the file of the metrics history, made if absent.

    A file of an older schema is copied first, then its tables are changed. Raises Conflict for
    one that a newer dbp has written, and errors of SQLite.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    connection = connect(path)
    try:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "journal_size_limit = 4194304",
            # Syncs batches that a process wrote before it was killed: a report in them that is
            # sent again is acknowledged without another write.
            "wal_checkpoint(TRUNCATE)",
        ):
            connection.execute(f"PRAGMA {pragma}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > METRICS_SCHEMA:
            raise Conflict(
                f"{path}: written by a newer dbp (schema {version}, this one knows "
                f"{METRICS_SCHEMA}); upgrade dbp"
            )
        if 0 < version < METRICS_SCHEMA:
            keep_copy(connection, path.with_name(f"{path.name}.schema-{version}"))
        for number in range(version + 1, METRICS_SCHEMA + 1):
            connection.executescript(
                f"BEGIN; {_CHANGES[number]} PRAGMA user_version = {number}; COMMIT;"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def copy_metrics(path: Path, target: Path) -> None:
    """Copy a file of the metrics history that no process has open, if there is one.

    A damaged one, or one that a newer dbp has written, is left out, with a warning. OSError.
    """
    if not path.exists():
        return
    try:
        with contextlib.closing(open_metrics(path)) as connection:
            copy_database(connection, target)
    except (sqlite3.DatabaseError, Conflict) as error:
        target.unlink(missing_ok=True)
        log.warning("%s: not in the backup: %s", path, error)


def _copied(path: Path, connection: sqlite3.Connection) -> bool:
    copy_database(connection, path)
    return True
