"""Copy the database to another file while it is in use, with SQLite's backup API."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dbp.storage.atomic_file import rename
from dbp.storage.verification import connect

_NEW: Final = ".new"


def copy_database(source: sqlite3.Connection, path: Path) -> None:
    """Write one state of a database to a new file, whose bytes are durable on return.

    The copy is one file, without a write-ahead log; the caller makes its name durable. Raises
    sqlite3.Error and OSError.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    copy = connect(path)
    try:
        copy.execute("PRAGMA synchronous = FULL")
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    finally:
        copy.close()


@contextlib.contextmanager
def opened_copy(path: Path) -> Iterator[tuple[sqlite3.Connection, int]]:
    """Yield a connection that reads a copy, and the version of its schema."""
    with contextlib.closing(connect(path, "ro")) as connection:
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        yield connection, schema


def keep_copy(source: sqlite3.Connection, path: Path) -> None:
    """Replace ``path`` by a copy of a database, atomically and durably.

    Raises sqlite3.Error and OSError; ``path`` is unchanged then.
    """
    new = path.with_name(path.name + _NEW)
    new.unlink(missing_ok=True)  # of a process that was killed
    try:
        copy_database(source, new)
        rename(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
