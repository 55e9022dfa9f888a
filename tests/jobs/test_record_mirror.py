"""Copies of the rows of jobs outside the database show that it has lost some."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbp.errors import StateDamaged
from dbp.job.job_json import encode_job
from dbp.job.state import Event, EventKind, Job, State, Version
from dbp.jobs.record_files import RecordFiles
from dbp.jobs.record_mirror import RecordMirror
from dbp.jobs.store import Store
from dbp.storage import schema
from dbp.storage.commit_file import CommitFile, commit_file
from dbp.storage.contents import Contents
from dbp.storage.database import Database
from dbp.storage.state_folder import StateFolder


def job(name: str) -> Job:
    return Job(name, {"name": name}, "d1", 2, State.QUEUED, 1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    with StateFolder(tmp_path / "s") as opened:
        yield opened


def opened(folder: StateFolder) -> Database:
    return Database(folder.database_file, RecordMirror(folder))


def files(folder: StateFolder) -> RecordFiles:
    return RecordFiles(folder.records_folder)


async def filled(folder: StateFolder) -> None:
    """Store three jobs, one with a version and a label; close the database."""
    database = opened(folder)
    store = Store(database)
    for name in ("a", "b"):
        await store.create(job(name), request=(f"r-{name}", "digest"))
    created = await store.create(job("c"), secret_hash=b"\x01\xff")
    started = (await store.append(created.job, Event(EventKind.STARTED, 2.0))).job
    index = await store.versions("c")
    change = index.publish(Version(1, 10, 1, "abc", 100, 5.0), best=True, keep=3, time=5.0)
    await store.change_versions(started, change)
    database.close()


async def test_every_acknowledged_change_is_in_the_record_files(folder: StateFolder) -> None:
    await filled(folder)

    found = files(folder)

    assert found.ids() == {"a", "b", "c"}
    sequence, rows = found.rows("c") or (0, {})
    assert sequence == found.sequence("c") == 6
    assert rows["jobs"][0]["state"] == "STARTING"
    assert rows["attempts"][0]["secret_hash"] == {"hex": "01ff"}
    assert (found.rows("a") or (0, {}))[1]["requests"] == [
        {"id": "r-a", "job": "a", "digest": "digest"}
    ]
    versions = found.versions("c") or {}
    assert [row["digest"] for row in versions["versions"]] == ["abc"]
    assert [row["label"] for row in versions["label_moves"]] == ["best"]


async def test_an_empty_database_beside_the_records_of_jobs_refuses(
    folder: StateFolder,
) -> None:
    await filled(folder)
    for name in ("dbp.sqlite", "dbp.sequence"):
        (folder.path / name).unlink()

    with pytest.raises(StateDamaged, match=r"3 of the jobs in .* are not in it, such as a;"):
        opened(folder)
    assert not folder.database_file.exists()


async def test_a_folder_of_an_unknown_job_refuses(folder: StateFolder) -> None:
    """As after an upgrade, before which no records were written."""
    await filled(folder)
    (folder.attempt_folder("lost", 1)).mkdir(parents=True)

    with pytest.raises(StateDamaged, match=r"1 of the jobs in .* such as lost;"):
        opened(folder)


async def test_a_restored_backup_beside_newer_records_refuses(folder: StateFolder) -> None:
    await filled(folder)
    backup = folder.database_file.read_bytes()
    database = opened(folder)
    store = Store(database)
    await store.append(await store.get("a"), Event(EventKind.CANCELLED, 9.0))
    database.close()
    folder.database_file.write_bytes(backup)
    (folder.path / "dbp.sequence").unlink()

    with pytest.raises(StateDamaged, match="job a is at event 1 in it, and at event 7 in"):
        opened(folder)


@pytest.mark.parametrize("damage", ["missing", "older", "empty", "flipped"])
async def test_records_that_are_behind_are_written_again(
    folder: StateFolder, damage: str
) -> None:
    """As after a kill between commit and record, or a power failure."""
    await filled(folder)
    record = folder.records_folder / "a.json"
    before = record.read_bytes()
    database = opened(folder)
    store = Store(database)
    await store.append(await store.get("a"), Event(EventKind.CANCELLED, 9.0))
    database.close()
    newest = record.read_bytes()
    if damage == "missing":
        shutil.rmtree(folder.records_folder)
    else:
        flipped = newest.replace(b'"sequence": 7', b'"sequence": 9', 1)
        record.write_bytes({"older": before, "empty": b"", "flipped": flipped}[damage])

    opened(folder).close()

    assert record.read_bytes() == newest
    assert files(folder).ids() == {"a", "b", "c"}


async def test_a_record_that_cannot_be_written_is_written_with_the_next_change(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = opened(folder)
    store = Store(database)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dbp.jobs.record_files.write_sealed", full)
        await store.create(job("a"))
    assert files(folder).ids() == set()
    await store.create(job("b"))

    assert files(folder).ids() == {"a", "b"}
    database.close()


def test_a_folder_of_an_earlier_schema_gets_records(folder: StateFolder) -> None:
    row = ("a", "SUCCEEDED", 1, '{"name": "a"}', encode_job(job("a")))
    with contextlib.closing(sqlite3.connect(folder.database_file)) as old, old:
        old.executescript(schema._TABLES)
        for number in range(2, 7):
            old.executescript(schema._CHANGES[number])
        old.execute("PRAGMA user_version = 6")
        old.execute(
            "INSERT INTO jobs (id, state, sequence, spec, record) VALUES (?,?,?,?,?)", row
        )
    folder.attempt_folder("a", 1).mkdir(parents=True)

    opened(folder).close()

    assert files(folder).ids() == {"a"}
    assert (files(folder).rows("a") or (0, {}))[0] == 1
    opened(folder).close()


async def test_storing_a_job_costs_the_same_however_many_there_are(folder: StateFolder) -> None:
    """Counted in steps of SQLite's machine, those for the record included."""
    database = opened(folder)
    store, steps = Store(database), [0]

    def count() -> int:
        steps[0] += 1
        return 0

    async def create(name: str) -> int:
        steps[0] = 0
        await store.create(job(name), request=(f"request {name}", "digest"))
        return steps[0]

    await create("first")
    database._writer.set_progress_handler(count, 1)
    few = await create("few")
    for number in range(300):
        await create(f"job{number}")
    many = await create("many")
    database._writer.set_progress_handler(None, 1)
    database.close()

    assert many <= few + 10


@pytest.mark.parametrize("opened_before", [False, True])
def test_a_file_of_schema_7_is_opened_though_the_first_attempt_was_killed(
    folder: StateFolder, opened_before: bool
) -> None:
    """The mark beside the file is still that of schema 7 then."""
    path = folder.database_file
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(schema._TABLES)
        for number in range(2, 8):
            old.executescript(schema._CHANGES[number])
        old.execute("PRAGMA user_version = 7")
        contents = Contents(old)
        mark = CommitFile(commit_file(path))
        mark.note(contents.mark)
        mark.close()
    acknowledged = commit_file(path).read_bytes()

    with contextlib.closing(opened(folder)):
        pass
    if opened_before:  # up to the moment before it wrote the mark
        commit_file(path).write_bytes(acknowledged)
    opened(folder).close()
