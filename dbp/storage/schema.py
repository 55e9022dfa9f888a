"""Tables of the service's SQLite file, and opening it. ``Database`` runs what uses them."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from dbp.errors import Unavailable
from dbp.storage.database_copy import keep_copy
from dbp.storage.verification import Compare, connect, explained, nothing_to_compare, verify

SCHEMA_VERSION: Final = 8

# Pages after which a commit moves the log into the file, with two fsyncs more. A new job takes
# nine: at SQLite's own 1,000, nearly one submit in a hundred paid for all the others.
LOG_PAGES: Final = 4_000

_TABLES: Final = """
CREATE TABLE jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  state TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  spec TEXT NOT NULL,
  record TEXT NOT NULL
);
CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE TABLE events (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  job TEXT NOT NULL REFERENCES jobs (id),
  time REAL NOT NULL,
  kind TEXT NOT NULL,
  record TEXT NOT NULL
);
CREATE INDEX events_by_job ON events (job, sequence);
CREATE TABLE requests (
  id TEXT PRIMARY KEY,
  job TEXT NOT NULL REFERENCES jobs (id),
  digest TEXT NOT NULL
);
CREATE TABLE attempts (
  job TEXT NOT NULL REFERENCES jobs (id),
  attempt INTEGER NOT NULL,
  secret_hash BLOB NOT NULL,
  outcome TEXT,
  PRIMARY KEY (job, attempt)
);
CREATE TABLE versions (
  job TEXT NOT NULL REFERENCES jobs (id),
  version INTEGER NOT NULL,
  step INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  digest TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  publish_time REAL NOT NULL,
  final INTEGER NOT NULL,
  PRIMARY KEY (job, version),
  UNIQUE (job, attempt, step)
);
"""

# What came with each later schema, by the version it leads to.
_CHANGES: Final = {
    2: """
ALTER TABLE versions ADD COLUMN previous_digest TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN spec_digest TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN kept INTEGER NOT NULL DEFAULT 1;
ALTER TABLE versions ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
CREATE INDEX versions_kept ON versions (job, version) WHERE kept;
CREATE TABLE label_moves (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  job TEXT NOT NULL REFERENCES jobs (id),
  label TEXT NOT NULL,
  version INTEGER NOT NULL,
  time REAL NOT NULL
);
CREATE INDEX label_moves_by_job ON label_moves (job, label, sequence);
CREATE INDEX label_moves_by_label ON label_moves (label, job, sequence);
""",
    3: """
CREATE TABLE versions_3 (
  job TEXT NOT NULL REFERENCES jobs (id),
  version INTEGER NOT NULL,
  step INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  digest TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  publish_time REAL NOT NULL,
  final INTEGER NOT NULL,
  previous_digest TEXT NOT NULL,
  spec_digest TEXT NOT NULL,
  rollbacks INTEGER NOT NULL,
  kept INTEGER NOT NULL DEFAULT 1,
  pinned INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (job, version),
  UNIQUE (job, attempt, rollbacks, step)
);
INSERT INTO versions_3 SELECT job, version, step, attempt, digest, size_bytes, publish_time,
  final, previous_digest, spec_digest, 0, kept, pinned FROM versions;
DROP TABLE versions;
ALTER TABLE versions_3 RENAME TO versions;
CREATE INDEX versions_kept ON versions (job, version) WHERE kept;
""",
    # A step can be published twice: as the best so far, and again as the final version.
    4: """
CREATE TABLE versions_4 (
  job TEXT NOT NULL REFERENCES jobs (id),
  version INTEGER NOT NULL,
  step INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  digest TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  publish_time REAL NOT NULL,
  final INTEGER NOT NULL,
  previous_digest TEXT NOT NULL,
  spec_digest TEXT NOT NULL,
  rollbacks INTEGER NOT NULL,
  kept INTEGER NOT NULL DEFAULT 1,
  pinned INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (job, version),
  UNIQUE (job, attempt, rollbacks, step, final)
);
INSERT INTO versions_4 SELECT job, version, step, attempt, digest, size_bytes, publish_time,
  final, previous_digest, spec_digest, rollbacks, kept, pinned FROM versions;
DROP TABLE versions;
ALTER TABLE versions_4 RENAME TO versions;
CREATE INDEX versions_kept ON versions (job, version) WHERE kept;
""",
    # The version that a label left with a move; the moves before it may have been pruned.
    5: """
ALTER TABLE label_moves ADD COLUMN previous INTEGER NOT NULL DEFAULT 0;
UPDATE label_moves SET previous = coalesce((
  SELECT earlier.version FROM label_moves AS earlier
  WHERE earlier.job = label_moves.job AND earlier.label = label_moves.label
    AND earlier.sequence < label_moves.sequence
  ORDER BY earlier.sequence DESC LIMIT 1
), 0);
""",
    # JSON of the label's move or of the pinned version; empty for other events.
    6: """
ALTER TABLE events ADD COLUMN detail TEXT NOT NULL DEFAULT '';
""",
    # The newest event of a job that was pruned; of earlier pruning only a bound is known.
    # When a job ended, so that the oldest are found without reading every record.
    # The digest of all rows: computed when the file is opened. A later change of the schema
    # sets it to '' again.
    7: """
ALTER TABLE jobs ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET pruned = min(
  jobs.sequence, coalesce((SELECT min(events.sequence) FROM events), 1) - 1
);
ALTER TABLE jobs ADD COLUMN end_time REAL;
UPDATE jobs SET end_time = json_extract(record, '$.end_time')
  WHERE state IN ('SUCCEEDED', 'FAILED', 'CANCELLED');
CREATE INDEX jobs_ended ON jobs (end_time, number) WHERE end_time IS NOT NULL;
CREATE INDEX versions_pinned ON versions (job) WHERE pinned;
CREATE TABLE contents (commits INTEGER NOT NULL, digest TEXT NOT NULL);
INSERT INTO contents VALUES (0, '');
""",
    # The record of a job is written after each of its changes, and holds its request. The new
    # number of the commit: the mark beside the file has the old one until the file is open.
    8: """
CREATE INDEX requests_by_job ON requests (job);
UPDATE contents SET commits = commits + 1, digest = '';
""",
}


def open_database(path: Path, compare: Compare = nothing_to_compare) -> sqlite3.Connection:
    """Return the connection that writes the store's file, made if absent.

    Only this one writes and checkpoints, which avoids the WAL-reset bug of SQLite before 3.51.3
    (https://sqlite.org/wal.html). Raises StateDamaged for a damaged file, which it leaves as it
    is, Conflict for one that another process has open or a newer dbp has written, and DiskFull.
    ``compare``: as in ``verify``. A file of an older schema is copied first, to
    ``copy_before_change``; then its tables are changed.
    """
    verify(path, compare, schema=SCHEMA_VERSION)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    connection = connect(path)
    try:
        _prepare(connection, path)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise explained(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def copy_before_change(path: Path, schema: int) -> Path:
    """Return the path of the copy that is made before a database of this schema is changed."""
    return path.with_name(f"{path.name}.schema-{schema}")


def open_reader(path: Path) -> sqlite3.Connection:
    """Return a connection that only reads, beside the one of ``open_database``."""
    connection = connect(path)
    for pragma in ("query_only = ON", "wal_autocheckpoint = 0"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise Unavailable(
            f"{path}: SQLite can keep no write-ahead log here (journal_mode is {mode}); choose "
            "another state folder"
        )
    for pragma in (
        "synchronous = FULL",
        "foreign_keys = ON",
        "recursive_triggers = ON",  # so that REPLACE fires the triggers of ``Contents``
        "journal_size_limit = 67108864",
        f"wal_autocheckpoint = {LOG_PAGES}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = 1; COMMIT;")
        version = 1
    elif version < SCHEMA_VERSION:
        keep_copy(connection, copy_before_change(path, version))
    for number in range(version + 1, SCHEMA_VERSION + 1):
        connection.executescript(
            f"BEGIN; {_CHANGES[number]} PRAGMA user_version = {number}; COMMIT;"
        )
