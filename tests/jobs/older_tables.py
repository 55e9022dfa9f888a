"""The tables of an older dbp."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from dbp.job.job_json import encode_job
from dbp.job.state import State
from dbp.storage import schema as store_schema
from tests.jobs.fakes import queued


def make_older_tables(
    connection: sqlite3.Connection, schema: int, jobs: Mapping[str, int]
) -> None:
    """Make the tables of a schema, with queued jobs; ``jobs``: their last events, by id."""
    connection.executescript(store_schema._TABLES)
    for number in range(2, schema + 1):
        connection.executescript(store_schema._CHANGES[number])
    connection.execute(f"PRAGMA user_version = {schema}")
    connection.executemany(
        "INSERT INTO jobs (id, state, sequence, spec, record) VALUES (?,?,?,?,?)",
        [
            (job, State.QUEUED, last, "{}", encode_job(queued(job)))
            for job, last in jobs.items()
        ],
    )
