"""The service's SQLite file on threads of its own, so that a slow disk delays no caller.

One thread writes and one reads, each with its own connection: with a write-ahead log, a COMMIT
that takes long delays no read, and a read that begins after a write has returned sees it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, final

from dbp.errors import DataLoss, DiskFull, StateGone, Unavailable
from dbp.storage.commit_file import CommitFile, commit_file
from dbp.storage.contents import Contents, Touched
from dbp.storage.database_copy import copy_database
from dbp.storage.full_disk import Ballast
from dbp.storage.schema import open_database, open_reader
from dbp.storage.threads import in_thread
from dbp.storage.verification import explained, log_of, nothing_to_compare

# SQLite reuses the log after ``LOG_PAGES``, unless overlapping readers prevent it.
LOG_BYTES: Final = 32 << 20

# Connections that stay open until the process ends.
_ABANDONED: Final[list[sqlite3.Connection]] = []

T = TypeVar("T")

log = logging.getLogger("dbp.storage")


class Mirror(ABC):
    """Copies of rows outside the database, by which the loss of rows is noticed.

    All methods run in the thread that writes.
    """

    @abstractmethod
    def compare(self, connection: sqlite3.Connection) -> None:
        """Raise StateDamaged unless the database has all that the copies have."""

    @abstractmethod
    def after_commit(self, connection: sqlite3.Connection, touched: Touched) -> None:
        """Copy the changed rows, which are durable now."""


@final
class Database:
    """An open SQLite file; all methods but ``close`` belong to one event loop."""

    def __init__(
        self,
        path: Path,
        mirror: Mirror | None = None,
        ballast: Ballast | None = None,
        check_present: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the file at ``path``, made if absent. Raises DataLoss, Conflict or DiskFull.

        Args:
            path: The file.
            mirror: Copies of its rows to keep up to date.
            ballast: Space for opening the file and for reserved changes on a full disk.
            check_present: Raises StateGone if the file was deleted; called before each use.
        """
        self.path = path
        self._check_present = check_present
        self._mirror = mirror
        self._ballast = ballast
        opened = self._opened() if ballast is None else ballast.run(self._opened)
        self._writer, self._contents = opened
        self._newest = CommitFile(commit_file(path))
        self._copied = True
        self._note_commit()
        self._empty_log()
        self._reader = open_reader(path)
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="database-write")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="database-read")
        self._copying = ThreadPoolExecutor(1, thread_name_prefix="database-copy")
        self._closed = False

    async def write(
        self, change: Callable[[sqlite3.Connection], T], *, reserved: bool = False
    ) -> T:
        """Run ``change`` in a transaction; return its result when it is durable.

        Rolled back if ``change`` raises. A caller that is cancelled first waits for the end of
        the transaction. DiskFull: nothing was changed; Unavailable: it cannot be written.

        ``reserved``: use the ballast where the disk is full; ``change`` is then called again.
        """
        return await self._run(self._writing, partial(self._write, change, reserved))

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of ``query``, which sees one state of the file; DataLoss."""
        return await self._run(self._reading, partial(self._query, query))

    async def copy_to(self, path: Path) -> None:
        """Write one state of the file to a new file; others read and write meanwhile.

        Raises DataLoss and OSError.
        """
        await self._run(self._copying, partial(self._copy, path))

    def close(self) -> None:
        """Finish the running calls and close the file; later calls raise Unavailable."""
        self._closed = True
        self._writing.shutdown()
        self._reading.shutdown()
        self._copying.shutdown()
        try:
            self._check_present()
        except StateGone:
            # Closing would delete the log of another database that is at this path now.
            _ABANDONED.extend((self._reader, self._writer))
            return
        self._reader.close()  # first, so that the writer's close empties the log
        self._writer.close()
        self._newest.close()

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        if self._closed:
            raise Unavailable("the service is shutting down; try again later")
        self._check_present()
        return await in_thread(work, threads)

    def _opened(self) -> tuple[sqlite3.Connection, Contents]:
        compare = self._mirror.compare if self._mirror else nothing_to_compare
        writer = open_database(self.path, compare)
        try:
            return writer, Contents(writer)
        except BaseException as error:
            writer.close()
            if isinstance(error, sqlite3.DatabaseError):
                raise explained(error, self.path) from error
            raise

    def _write(self, change: Callable[[sqlite3.Connection], T], reserved: bool) -> T:
        if self._ballast is None:
            return self._transaction(change)
        transaction = partial(self._transaction, change)
        if reserved:
            # A commit appends to the log. Moving the log into the file may wait for space.
            result = self._ballast.run(transaction, heir=log_of(self.path))
        else:
            self._ballast.check()
            result = transaction()
        self._ballast.restore()
        return result

    def _transaction(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Commit after ``change``; roll back if it raises."""
        connection = self._writer
        self._contents.begin()
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = change(connection)
            self._contents.seal()
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise self._explained(error) from error
            raise
        self._contents.committed()
        self._note_commit()
        return result

    def _note_commit(self) -> None:
        """Copy the committed rows to the files beside the database; never raises.

        The change is made: an error here must not make it look refused.
        """
        try:
            self._newest.note(self._contents.mark)
            if self._mirror is not None:
                self._mirror.after_commit(self._writer, self._contents.touched)
            self._copied = True
        except (OSError, sqlite3.Error) as error:
            if self._copied:  # once, until it succeeds again
                log.warning("%s: the copies beside it are out of date: %s", self.path, error)
            self._copied = False
        with contextlib.suppress(OSError):
            if log_of(self.path).stat().st_size > LOG_BYTES:
                self._empty_log()

    def _empty_log(self) -> None:
        """Move the write-ahead log into the file; left for later if readers are active."""
        with contextlib.suppress(sqlite3.OperationalError):  # the disk may be full
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _copy(self, path: Path) -> None:
        reader = open_reader(self.path)
        try:
            copy_database(reader, path)
        except sqlite3.DatabaseError as error:
            raise explained(error, path) from error
        finally:
            reader.close()

    def _query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            self._reader.execute("BEGIN")
            try:
                return query(self._reader)
            finally:
                self._reader.execute("ROLLBACK")
        except sqlite3.DatabaseError as error:
            raise DataLoss(f"{self.path}: cannot be read: {error}") from error

    def _explained(self, error: sqlite3.OperationalError) -> DiskFull | Unavailable:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
            return DiskFull(f"{self.path}: the disk is full; nothing was changed")
        return Unavailable(f"{self.path}: cannot be written: {error}; nothing was changed")
