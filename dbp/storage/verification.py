"""Notice damage to the database's files before anything is written to them."""

from __future__ import annotations

import contextlib
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import quote

from dbp.errors import Conflict, DataLoss, DiskFull, StateDamaged
from dbp.storage.commit_file import commit_file, read_mark
from dbp.storage.contents import computed_digest, stored_mark

_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
# A read-only connection fails without space for an index, and if a rollback is not finished (a
# process was killed while it made the file; later changes are in the log).
_MUST_WRITE: Final = (
    sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY_ROLLBACK,
)  # fmt: skip
# The machine refuses; the file may be sound.
_REFUSED: Final = (
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_AUTH,
)  # fmt: skip
_SHOWN: Final = 200

# Compares the database with its copies outside; raises StateDamaged.
Compare: TypeAlias = Callable[[sqlite3.Connection], None]


def nothing_to_compare(_: sqlite3.Connection) -> None:
    """Accept a database without copies of its rows outside."""


def damaged(path: Path, text: str) -> StateDamaged:
    """Return the error for a damaged database, with the command that rebuilds it."""
    folder = shlex.quote(str(path.parent))
    return StateDamaged(
        f"{path}: {text}; rebuild it from the files of the jobs (the damaged file is kept): "
        f"dbp serve --recover --state {folder}"
    )


def explained(error: sqlite3.DatabaseError, path: Path) -> DataLoss | Conflict | DiskFull:
    """Return the error for a file that SQLite cannot open or read."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _BUSY:
        return Conflict(f"{path}: another process has it open")
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(f"{path}: the disk is full: free some space, then start the service")
    if code in _REFUSED:
        return DataLoss(f"{path}: cannot be opened: {error}")
    return damaged(path, f"damaged: {str(error)[:_SHOWN]}")


def connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    """Return a connection to a file, which is locked against other processes.

    SQLite's ``unix-excl`` file layer allows several connections of one process and keeps the
    index of the log in its memory, not in a shared file.
    """
    address = f"file:{quote(str(path))}?vfs=unix-excl&mode={mode}"
    return sqlite3.connect(
        address, uri=True, isolation_level=None, timeout=1.0, check_same_thread=False
    )


def verify(path: Path, compare: Compare, *, schema: int) -> None:
    """Raise StateDamaged if acknowledged changes are missing or rows have changed.

    Changes no file. A transaction that was not acknowledged may be missing. Conflict: the file
    has a newer ``schema`` than this.
    """
    try:
        with untouched(path) as connection:
            _check_schema(connection, path, schema)
            _check_contents(connection, path)
            compare(connection)
    except sqlite3.DatabaseError as error:
        raise explained(error, path) from error


@contextlib.contextmanager
def untouched(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that leaves the file and its log as they are; empty without a file.

    A connection that may write empties the log into the file when it is closed, up to the
    first damaged frame.
    """
    log, had_log = log_of(path), log_of(path).exists()
    if not path.exists() or not path.stat().st_size:
        if had_log and log.stat().st_size:
            raise damaged(path, "missing, beside its write-ahead log")
        connection = sqlite3.connect(":memory:")
    else:
        connection = _reading(path)
    try:
        yield connection
    finally:
        connection.close()
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)  # of a read-only connection
        if not had_log:
            log.unlink(missing_ok=True)  # likewise, and empty


def _reading(path: Path) -> sqlite3.Connection:
    """Return a connection that only reads; one that may write where reading needs that.

    A read-only connection keeps the index of the log in a file.
    """
    connection = connect(path, "ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:
        connection.close()
        if error.sqlite_errorcode not in _MUST_WRITE:
            raise
        return connect(path)
    return connection


def log_of(path: Path) -> Path:
    """Return the path of a database's write-ahead log."""
    return path.with_name(f"{path.name}-wal")


def _check_schema(connection: sqlite3.Connection, path: Path, known: int) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > known:
        raise Conflict(
            f"{path}: written by a newer dbp (schema {version}, this one knows {known}); "
            "upgrade dbp or choose another state folder"
        )


def is_intact(connection: sqlite3.Connection) -> bool:
    """Return whether the rows are those of some commit, as far as SQLite and digest say."""
    return not _flaw(connection)


def _flaw(connection: sqlite3.Connection) -> str:
    """Return the first fault in the pages or the rows, as text; "" for none."""
    (report,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if report != "ok":
        return " ".join(str(report).split())
    mark = stored_mark(connection)
    if mark.digest and computed_digest(connection, mark.commits) != mark.digest:
        return "its rows do not match their digest"
    return ""


def _check_contents(connection: sqlite3.Connection, path: Path) -> None:
    """Check pages and rows, and that the newest commit is not older than acknowledged."""
    if flaw := _flaw(connection):
        raise damaged(path, f"damaged: {flaw}")
    mark, acknowledged = stored_mark(connection), read_mark(commit_file(path))
    if acknowledged is None:
        return
    if mark.commits < acknowledged.commits:
        raise damaged(
            path,
            f"commit {acknowledged.commits:,} was acknowledged, the newest one here is "
            f"{mark.commits:,} (a damaged write-ahead log, or an older copy of the file?)",
        )
    if mark.commits == acknowledged.commits and mark.digest != acknowledged.digest:
        raise damaged(path, f"commit {mark.commits:,} is not the acknowledged one")
