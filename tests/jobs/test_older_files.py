"""Database files of older dbp versions, newer ones and damaged ones."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from dbp.errors import Conflict, DataLoss
from dbp.job.job_json import encode_job
from dbp.job.state import Job, LabelMove, State, Version
from dbp.jobs.store import Store
from dbp.storage import schema as store_schema
from dbp.storage.database import Database
from dbp.storage.schema import SCHEMA_VERSION
from dbp.versions.index import VersionIndex
from tests.jobs.fakes import queued
from tests.jobs.older_tables import make_older_tables


@pytest.mark.parametrize("sequence", [3, 50])
async def test_a_job_of_an_older_file_misses_the_events_that_may_be_its_own(
    tmp_path: Path, sequence: int
) -> None:
    """The file of schema 6 keeps events from 21 on; the job's last event is ``sequence``."""
    path = tmp_path / "dbp.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        make_older_tables(old, 6, {"a": sequence, "b": 60})
        for number in range(21, 61):
            old.execute(
                "INSERT INTO events (sequence, job, time, kind, record) VALUES (?,?,1,?,'')",
                (number, "a" if number == sequence else "b", "created"),
            )

    with contextlib.closing(Database(path)) as database:
        store = Store(database)
        assert await store.sequence_range("a") == (min(sequence, 20), 60)
        assert await store.sequence_range() == (20, 60)


def test_a_newer_schema_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "dbp.sqlite"
    Database(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()

    with pytest.raises(Conflict, match="newer dbp"):
        Database(path)


def old_file(path: Path, schema: int) -> None:
    """Make a database of an older schema with one job."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        make_older_tables(old, schema, {"a": 1})


async def test_the_file_is_copied_before_its_tables_change(tmp_path: Path) -> None:
    path, copy = tmp_path / "dbp.sqlite", tmp_path / "dbp.sqlite.schema-5"
    old_file(path, 5)
    copy.with_name(f"{copy.name}.new").write_text("of a service that was killed")

    Database(path).close()

    with contextlib.closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (5,)
        assert connection.execute("SELECT id FROM jobs").fetchall() == [("a",)]
    assert copy.stat().st_mode & 0o077 == 0
    path.unlink()
    (tmp_path / "dbp.sequence").unlink()
    copy.rename(path)
    with contextlib.closing(Database(path)) as database:  # the copy is a whole database
        assert (await Store(database).get("a")).state is State.QUEUED
    Database(path).close()
    assert [entry.name for entry in tmp_path.glob("*schema*")] == [copy.name], "made once"


async def test_events_of_an_older_file_stay_and_label_moves_follow_them(
    tmp_path: Path,
) -> None:
    path = tmp_path / "dbp.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(store_schema._TABLES)
        for number in range(2, 6):
            old.executescript(store_schema._CHANGES[number])
        old.execute("PRAGMA user_version = 5")
        record = encode_job(queued("a"))
        old.execute(
            "INSERT INTO jobs (id, state, sequence, spec, record) VALUES (?,?,?,?,?)",
            ("a", State.QUEUED, 1, "{}", record),
        )
        old.execute(
            "INSERT INTO events (job, time, kind, record) VALUES ('a', 1.0, 'created', ?)",
            (record,),
        )

    with contextlib.closing(Database(path)) as database:
        store = Store(database)
        version = Version(1, 10, 1, "abc", 100, 5.0)
        index = VersionIndex("a", kept=(version,))
        await store.change_versions(
            await store.get("a"), index.move("stable", 1, keep=3, time=2.0)
        )
        found = await store.events_after(0)

    assert [(item.kind, item.label, item.version) for item in found] == [
        ("created", None, 0),
        ("label_moved", LabelMove("stable", 1, 2.0, 0), 0),
    ]


@pytest.mark.parametrize("damage", [b"garbage" * 1000, None])
async def test_a_damaged_file_is_refused_not_read(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "dbp.sqlite"
    database = Database(path)
    store = Store(database)
    for number in range(200):
        await store.create(queued(f"job{number}"))
    database.close()
    content = bytearray(path.read_bytes())
    if damage is None:
        middle = slice(4096, len(content) // 2)
        content[middle] = b"\xa5" * len(content[middle])
    path.write_bytes(damage or content)

    with pytest.raises(DataLoss, match="dbp serve --recover --state"):
        Database(path)


async def test_a_file_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "dbp.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(f"BEGIN; {store_schema._TABLES} PRAGMA user_version = 1; COMMIT;")
        job = Job("a", {}, "", 1, State.QUEUED, 0.0)
        old.execute(
            "INSERT INTO jobs (id, state, sequence, spec, record) VALUES (?,?,?,?,?)",
            ("a", job.state, 1, "{}", encode_job(job)),
        )
        old.execute("INSERT INTO versions VALUES ('a', 1, 10, 1, 'ab', 5, 2.0, 0)")
    for _ in range(2):  # once to change it, once as it is then
        database = Database(path)
        store = Store(database)
        try:
            assert (await store.versions("a")).kept == (Version(1, 10, 1, "ab", 5, 2.0),)
            assert (await store.versions("a")).labels == {}
        finally:
            database.close()
