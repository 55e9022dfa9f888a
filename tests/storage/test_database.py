"""One thread writes, one reads: a slow commit delays no read, and no change is half made."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dbp.errors import DataLoss, ResourceExhausted, StateGone, Unavailable
from dbp.storage.database import Database
from dbp.storage.state_folder import StateFolder
from tests.deadline import DEADLINE

COMMIT_SECONDS = 0.4


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "dbp.sqlite")
    yield opened
    opened.close()


def add(name: str) -> Callable[[sqlite3.Connection], None]:
    def change(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO jobs (id, state, sequence, spec, record) VALUES (?,'QUEUED',0,'','')",
            (name,),
        )

    return change


def names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT id FROM jobs ORDER BY number")]


def slow_commits(database: Database) -> None:
    def slow(statement: str) -> None:
        if statement == "COMMIT":
            time.sleep(COMMIT_SECONDS)

    database._writer.set_trace_callback(slow)


async def test_a_read_after_a_write_sees_it(database: Database) -> None:
    for number in range(100):
        await database.write(add(f"job{number}"))
        assert (await database.read(names))[-1] == f"job{number}"


async def test_a_slow_commit_delays_no_read_and_is_not_seen_early(database: Database) -> None:
    await database.write(add("a"))
    slow_commits(database)
    began = time.monotonic()
    writing = asyncio.create_task(database.write(add("b")))
    await asyncio.sleep(0)

    during, reads = [], 0
    while not writing.done():
        during.append((time.monotonic(), await database.read(names)))
        reads += 1
    took = time.monotonic() - began

    assert took >= COMMIT_SECONDS
    assert all(seen == ["a"] for when, seen in during if when < began + COMMIT_SECONDS)
    assert reads > 3, "one read would have waited for the commit"
    assert await database.read(names) == ["a", "b"]


async def test_a_change_that_raises_leaves_no_trace(database: Database) -> None:
    def change(connection: sqlite3.Connection) -> None:
        add("a")(connection)
        raise KeyError("no")

    with pytest.raises(KeyError):
        await database.write(change)

    assert await database.read(names) == []
    await database.write(add("b"))
    assert await database.read(names) == ["b"]


async def test_writes_are_one_after_the_other(database: Database) -> None:
    inside, most = 0, 0
    lock = threading.Lock()

    def change(number: int) -> Callable[[sqlite3.Connection], None]:
        def count(connection: sqlite3.Connection) -> None:
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            add(f"job{number}")(connection)
            time.sleep(0.001)
            with lock:
                inside -= 1

        return count

    await asyncio.gather(*(database.write(change(number)) for number in range(20)))

    assert most == 1
    assert await database.read(names) == [f"job{number}" for number in range(20)]


async def test_a_cancelled_writer_waits_until_its_change_is_durable(database: Database) -> None:
    slow_commits(database)
    writing = asyncio.create_task(database.write(add("a")))
    await asyncio.sleep(COMMIT_SECONDS / 8)

    writing.cancel()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing

    assert await database.read(names) == ["a"]


async def test_a_full_disk_refuses_and_changes_nothing(database: Database) -> None:
    database._writer.execute("PRAGMA max_page_count = 20")

    async def fill() -> None:
        for number in range(2_000):
            await database.write(add(f"job{number}"))

    with pytest.raises(ResourceExhausted, match="disk is full; nothing was changed"):
        await fill()
    kept = len(await database.read(names))
    database._writer.execute("PRAGMA max_page_count = 100000")
    await database.write(add("later"))

    assert len(await database.read(names)) == kept + 1


async def test_a_file_that_cannot_be_written_is_unavailable(database: Database) -> None:
    database._writer.execute("PRAGMA query_only = ON")

    with pytest.raises(Unavailable, match=r"cannot be written: .*; nothing was changed"):
        await database.write(add("a"))


async def test_a_damaged_table_is_reported_by_reads(database: Database) -> None:
    with pytest.raises(DataLoss, match="cannot be read"):
        await database.read(lambda connection: connection.execute("SELECT * FROM nothing"))
    assert await database.read(names) == [], "later reads work"


async def test_reads_cannot_write(database: Database) -> None:
    with pytest.raises(DataLoss, match="readonly"):
        await database.read(add("a"))


async def test_the_write_ahead_log_is_in_use_and_emptied_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "dbp.sqlite"
    database = Database(path)

    (mode,) = await database.read(lambda c: c.execute("PRAGMA journal_mode").fetchone())
    await database.write(add("a"))

    assert mode == "wal"
    names = {entry.name for entry in tmp_path.iterdir()}
    assert names == {"dbp.sqlite", "dbp.sqlite-wal", "dbp.sequence"}
    database.close()
    assert {entry.name for entry in tmp_path.iterdir()} == {"dbp.sqlite", "dbp.sequence"}


async def test_a_closed_database_is_unavailable(tmp_path: Path) -> None:
    database = Database(tmp_path / "dbp.sqlite")
    database.close()

    with pytest.raises(Unavailable, match="shutting down"):
        await database.read(names)
    with pytest.raises(Unavailable, match="shutting down"):
        await database.write(add("a"))


def test_a_path_with_marks_of_addresses_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%20d e.sqlite"
    Database(path).close()

    assert {entry.name for entry in tmp_path.iterdir()} == {
        path.name, "a?b#c%20d e.sequence",
    }  # fmt: skip


def test_another_process_cannot_open_the_file(database: Database) -> None:
    code = (
        "import sys; from pathlib import Path; from dbp.errors import Conflict\n"
        "from dbp.storage.database import Database\n"
        "try: Database(Path(sys.argv[1]))\n"
        "except Conflict as error: print(error)\n"
    )
    plain = (
        "import sqlite3, sys; sqlite3.connect(sys.argv[1], 0.1).execute('SELECT 1 FROM jobs')"
    )
    for query in (code, plain):
        found = subprocess.run(
            [sys.executable, "-c", query, str(database.path)],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert "another process has it open" in found.stdout or "locked" in found.stderr


async def test_closing_a_deleted_database_leaves_another_one_at_its_path(
    tmp_path: Path,
) -> None:
    """SQLite deletes the log by its name, whoever's it is."""
    place = tmp_path / "s"
    folder = StateFolder(place)
    old = Database(folder.database_file, check_present=folder.check_present)
    await old.write(add("a"))
    place.rename(tmp_path / "deleted")
    with StateFolder(place) as replacement:
        new = Database(replacement.database_file, check_present=replacement.check_present)
        await new.write(add("b"))
        with pytest.raises(StateGone):
            await old.write(add("c"))
        with pytest.raises(StateGone):
            await old.read(names)

        old.close()
        folder.close()

        assert (place / "dbp.sqlite-wal").stat().st_size > 0
        assert await new.read(names) == ["b"]
        new.close()
