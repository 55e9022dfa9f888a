"""Digest of all rows of the database, so that damage to its files is noticed.

SQLite ends a write-ahead log silently at the first damaged frame, and does not checksum the
pages of the main file. The table ``contents`` holds the number of commits and the sum of the
hashes of all rows, which temporary triggers of the writing connection keep up to date.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, final

_BYTES: Final = 16
_MODULUS: Final = 1 << (8 * _BYTES)
_FUNCTION: Final = "dbp_row_changed"
_TABLE: Final = "contents"

# Which tables a transaction changed, by job.
Touched: TypeAlias = Mapping[str, set[str]]


@dataclass(frozen=True)
class CommitMark:
    """The number of a commit, and the digest of the database after it; "" if not computed."""

    commits: int = 0
    digest: str = ""


@final
class Contents:
    """Keeps the table ``contents`` up to date, on the connection that writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Install the triggers; compute the digest if there is none yet."""
        self._connection = connection
        self.mark = stored_mark(connection)
        if not self.mark.digest:
            self._total = _total(connection)
        else:
            self._total = int(self.mark.digest, 16) - _hash(_TABLE, (self.mark.commits,))
        self._change = 0
        self._next: CommitMark | None = None
        self.touched: dict[str, set[str]] = {}
        connection.create_function(_FUNCTION, -1, self._changed)
        for table in _tables(connection):
            _install(connection, table)
        if not self.mark.digest:
            self._store(self.mark.commits)
            self.committed()

    def begin(self) -> None:
        """Forget the changes of the transaction before, which may have been rolled back."""
        self._change, self._next, self.touched = 0, None, {}

    def seal(self) -> None:
        """Store number and digest, if the transaction changed rows; call before COMMIT."""
        if self.touched:
            self._store(self.mark.commits + 1)

    def committed(self) -> None:
        """Take over the changes of the transaction, which is durable."""
        if self._next is not None:
            self.mark, self._next = self._next, None
            self._total += self._change

    def _store(self, commits: int) -> None:
        self._next = CommitMark(commits, _sealed(self._total + self._change, commits))
        self._connection.execute(
            f"UPDATE {_TABLE} SET commits = ?, digest = ?",  # noqa: S608 (a fixed name)
            (self._next.commits, self._next.digest),
        )

    def _changed(self, sign: int, table: str, job: str, *row: object) -> None:
        """Note a row that was added (``sign`` 1) or removed (-1); called by the triggers."""
        self._change += sign * _hash(table, row)
        self.touched.setdefault(job, set()).add(table)


def stored_mark(connection: sqlite3.Connection) -> CommitMark:
    """Return the newest commit's mark; that of an older schema has no digest."""
    if _TABLE not in _names(connection):
        return CommitMark()
    rows = connection.execute(f"SELECT commits, digest FROM {_TABLE}").fetchall()  # noqa: S608
    if len(rows) == 1 and isinstance(rows[0][0], int) and isinstance(rows[0][1], str):
        return CommitMark(*rows[0])
    return CommitMark(0, "damaged")


def computed_digest(connection: sqlite3.Connection, commits: int) -> str:
    """Return the digest of the rows as they are; reads all of them."""
    return _sealed(_total(connection), commits)


def _sealed(total: int, commits: int) -> str:
    number = (total + _hash(_TABLE, (commits,))) % _MODULUS
    return f"{number:0{2 * _BYTES}x}"


def _total(connection: sqlite3.Connection) -> int:
    """Return the sum of the hashes of all rows, and of the schema."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    total = _hash("user_version", (version,))
    for row in connection.execute("SELECT type, name, tbl_name, sql FROM main.sqlite_schema"):
        total += _hash("sqlite_schema", row)
    for table in _tables(connection):
        for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 (from the schema)
            total += _hash(table, row)
    return total % _MODULUS


def _hash(table: str, row: tuple[object, ...]) -> int:
    text = repr((table, *row)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=_BYTES).digest(), "big")


def _names(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'")
    return [name for (name,) in rows]


def _tables(connection: sqlite3.Connection) -> list[str]:
    """Return the tables that the digest covers."""
    return [
        name for name in _names(connection) if name != _TABLE and not name.startswith("sqlite_")
    ]


def _install(connection: sqlite3.Connection, table: str) -> None:
    """Make the triggers of a table; they exist in this connection only."""
    columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
    owner = "id" if table == "jobs" else "job"

    def call(sign: int, row: str) -> str:
        values = ", ".join(f'{row}."{column}"' for column in columns)
        job = f'{row}."{owner}"' if owner in columns else "''"
        return f"SELECT {_FUNCTION}({sign}, '{table}', {job}, {values});"

    for event, calls in (
        ("INSERT", call(1, "NEW")),
        ("DELETE", call(-1, "OLD")),
        ("UPDATE", call(-1, "OLD") + call(1, "NEW")),
    ):
        connection.execute(
            f'CREATE TEMP TRIGGER "digest_{table}_{event}" AFTER {event} ON main."{table}" '
            f"BEGIN {calls} END"
        )
