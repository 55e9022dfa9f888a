"""SQL for all rows of one job: to copy them out of the database, and back into a new one.

The rows are plain values with the names of their columns, so that a later schema adds tables
and columns without a change here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from dbp.json_value import JsonValue

Row: TypeAlias = dict[str, JsonValue]
# The rows of a job by table.
Rows: TypeAlias = dict[str, list[Row]]

_VERSIONS: Final = ("versions", "label_moves")
# Columns that the new database numbers itself.
_NUMBERS: Final = {"jobs": "number", "events": "sequence", "label_moves": "sequence"}
_KEPT: Final = "kept"
_HEX: Final = "hex"


def sequences(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the sequence of each job's newest event; none in an empty database."""
    if "jobs" not in _tables(connection):
        return {}
    return dict(connection.execute("SELECT id, sequence FROM jobs ORDER BY number"))


def tables_of_jobs(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Return the tables with rows of jobs that ``job_rows`` reads beside ``jobs``."""
    return tuple(
        table
        for table in _tables(connection)
        if table not in ("jobs", "events", *_VERSIONS) and "job" in _columns(connection, table)
    )


def job_rows(connection: sqlite3.Connection, job_id: str, tables: Iterable[str]) -> Rows:
    """Return the rows of a job, without its events, versions and labels.

    ``tables``: as ``tables_of_jobs`` returns them.
    """
    rows = {"jobs": _select(connection, "jobs", "id = ?", job_id)}
    for table in tables:
        rows[table] = _select(connection, table, "job = ?", job_id)
    return rows


def version_rows(
    connection: sqlite3.Connection, job_id: str, *, all_rows: bool = False
) -> Rows:
    """Return the rows of the versions that are kept, and of the last move of each label.

    ``all_rows``: those of versions whose bytes are gone, and of earlier moves, too.
    """
    newest = "SELECT max(sequence) FROM label_moves WHERE job = ?1 GROUP BY label"
    return {
        "versions": _select(
            connection, "versions", "job = ?1" + ("" if all_rows else " AND kept"), job_id
        ),
        "label_moves": _select(
            connection,
            "label_moves",
            "job = ?1" + ("" if all_rows else f" AND sequence IN ({newest})"),
            job_id,
        ),
    }


def insert_rows(connection: sqlite3.Connection, rows: Mapping[str, Iterable[Row]]) -> None:
    """Insert rows of a job; columns that this schema does not have are left out."""
    for table, entries in rows.items():
        known = _columns(connection, table)
        for entry in entries:
            names = [n for n in entry if n in known and n != _NUMBERS.get(table)]
            marks = ",".join("?" * len(names))
            connection.execute(
                f"INSERT INTO {table} ({','.join(names)}) VALUES ({marks})",  # noqa: S608 (columns of the schema)
                [_as_stored(entry[name]) for name in names],
            )


def begin_history(connection: sqlite3.Connection, after: int, time: float) -> None:
    """Give each job one event that holds its present state, after the sequence ``after``.

    Earlier events are deleted, and those up to ``after`` count as no longer kept.
    """
    connection.execute("DELETE FROM events")
    connection.execute("UPDATE jobs SET pruned = ?", (after,))
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'events'")
    connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?)", (after,))
    connection.execute(
        "INSERT INTO events (sequence, job, time, kind, record) "
        "SELECT ?1 + row_number() OVER (ORDER BY number), id, ?2, 'created', record FROM jobs",
        (after, time),
    )
    connection.execute(
        "UPDATE jobs SET sequence = (SELECT sequence FROM events WHERE job = jobs.id)"
    )


def raise_version_floors(connection: sqlite3.Connection, by: int) -> None:
    """Let the next version of each job have a number more than ``by`` above its newest one."""
    newest = "coalesce((SELECT max(version) FROM versions WHERE job = jobs.id), 0)"
    floor = "coalesce(json_extract(record, '$.version_floor'), 0)"
    connection.execute(
        "UPDATE jobs SET record = "  # noqa: S608 (fixed words)
        f"json_set(record, '$.version_floor', max({newest}, {floor}) + ?)",
        (by,),
    )


def newest_event(connection: sqlite3.Connection) -> int:
    """Return the highest sequence that an event has or had; 0 without events."""
    sql = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"
    return max((sequence for (sequence,) in connection.execute(sql)), default=0)


def _select(
    connection: sqlite3.Connection, table: str, condition: str, job_id: str
) -> list[Row]:
    cursor = connection.execute(f"SELECT * FROM {table} WHERE {condition}", (job_id,))  # noqa: S608 (fixed words)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, map(_as_json, row), strict=True)) for row in cursor]


def _as_json(value: object) -> JsonValue:
    if isinstance(value, bytes):
        return {_HEX: value.hex()}
    if value is None or isinstance(value, int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} is no value of SQLite")


def _as_stored(value: JsonValue) -> object:
    if isinstance(value, Mapping):
        return bytes.fromhex(str(value[_HEX]))
    return value


def _tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    return [name for (name,) in rows if not name.startswith("sqlite_")]


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
