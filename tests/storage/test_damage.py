"""Damage to the database's files, and its loss of commits, is noticed when it is opened."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from dbp.errors import StateDamaged
from dbp.storage import database as database_module
from dbp.storage.contents import computed_digest, stored_mark
from dbp.storage.database import Database
from dbp.storage.verification import untouched

COMMITS = 60


def add(name: str, spec: str = "") -> Callable[[sqlite3.Connection], None]:
    def change(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO jobs (id, state, sequence, spec, record) VALUES (?,'QUEUED',0,?,'')",
            (name, spec),
        )
        connection.execute(
            "INSERT INTO events (job, time, kind, record) VALUES (?, 1.5, 'created', '')",
            (name,),
        )

    return change


def names(path: Path) -> list[str]:
    with untouched(path) as connection:
        return [name for (name,) in connection.execute("SELECT id FROM jobs ORDER BY number")]


def dump(path: Path) -> list[str]:
    with untouched(path) as connection:
        return list(connection.iterdump())


async def killed(folder: Path, *, commits: int = COMMITS) -> Path:
    """Return the database of a process that was killed after these commits."""
    living = folder / "living"
    living.mkdir()
    database = Database(living / "dbp.sqlite")
    for number in range(commits):
        await database.write(add(f"job{number}", "s" * 500))
    shutil.copytree(living, folder / "killed")
    database.close()
    return folder / "killed" / "dbp.sqlite"


def log_of(path: Path) -> Path:
    return path.with_name("dbp.sqlite-wal")


def open_and_close(path: Path) -> None:
    Database(path).close()


def flip(path: Path, offset: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(content)


async def test_a_killed_process_leaves_a_database_that_opens(tmp_path: Path) -> None:
    path = await killed(tmp_path)

    assert log_of(path).stat().st_size > 0
    open_and_close(path)

    assert names(path) == [f"job{number}" for number in range(COMMITS)]


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.5, 0.9, 0.999])
async def test_damage_to_the_log_refuses_and_changes_no_file(
    tmp_path: Path, part: float
) -> None:
    path = await killed(tmp_path)
    log = log_of(path)
    flip(log, int(part * (log.stat().st_size - 1)))
    before = {entry.name: entry.read_bytes() for entry in path.parent.iterdir()}

    with pytest.raises(StateDamaged, match=r"dbp.sqlite: .*acknowledged"):
        open_and_close(path)

    after = {entry.name: entry.read_bytes() for entry in path.parent.iterdir()}
    assert after == before


@pytest.mark.parametrize("size", [0, 31, 4_000, 100_000])
async def test_a_log_that_was_cut_short_refuses(tmp_path: Path, size: int) -> None:
    path = await killed(tmp_path)
    with log_of(path).open("r+b") as file:
        file.truncate(size)

    with pytest.raises(StateDamaged, match="was acknowledged, the newest one here is"):
        open_and_close(path)


async def test_commits_that_were_not_acknowledged_may_be_missing(tmp_path: Path) -> None:
    """As after a power failure in the middle of a commit."""
    path = await killed(tmp_path)
    mark = path.with_name("dbp.sequence").read_bytes()
    database = Database(path)
    await database.write(add("unacknowledged"))
    torn = tmp_path / "torn"
    shutil.copytree(path.parent, torn)
    database.close()
    (torn / "dbp.sequence").write_bytes(mark)
    log = log_of(torn / path.name)
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - 10)

    open_and_close(torn / path.name)

    assert names(torn / path.name) == [f"job{number}" for number in range(COMMITS)]


async def test_the_mark_may_be_older_than_the_database_or_damaged(tmp_path: Path) -> None:
    """As after a power failure: it is written without fsync."""
    path = await killed(tmp_path)
    mark = path.with_name("dbp.sequence")
    old = mark.read_bytes()
    database = Database(path)
    await database.write(add("later"))
    database.close()

    for content in (old, b"", old[:20], old.replace(b" ", b"9", 1), bytes(128)):
        mark.write_bytes(content)
        open_and_close(path)
        assert len(names(path)) == COMMITS + 1
        assert b" " in mark.read_bytes(), "it is written again"


async def test_an_older_copy_of_the_file_refuses(tmp_path: Path) -> None:
    path = await killed(tmp_path)
    open_and_close(path)
    copy = path.read_bytes()
    database = Database(path)
    await database.write(add("later"))
    database.close()
    path.write_bytes(copy)

    with pytest.raises(StateDamaged, match=r"commit 62 was acknowledged, .* 61 \("):
        open_and_close(path)


async def test_a_copy_with_another_history_refuses(tmp_path: Path) -> None:
    path = await killed(tmp_path)
    shutil.copytree(path.parent, tmp_path / "other")
    for file, name in ((path, "a"), (tmp_path / "other" / "dbp.sqlite", "b")):
        database = Database(file)
        await database.write(add(name))
        database.close()
    shutil.copy(tmp_path / "other" / "dbp.sqlite", path)

    with pytest.raises(StateDamaged, match="commit 62 is not the acknowledged one"):
        open_and_close(path)


@pytest.mark.parametrize("content", [None, b""])
async def test_a_missing_or_empty_file_refuses(tmp_path: Path, content: bytes | None) -> None:
    path = await killed(tmp_path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(StateDamaged, match="missing, beside its write-ahead log"):
        open_and_close(path)
    log_of(path).unlink()
    with pytest.raises(StateDamaged, match="commit 61 was acknowledged"):
        open_and_close(path)
    assert not path.exists() or not path.read_bytes()


async def test_flips_in_rows_refuse(tmp_path: Path) -> None:
    """SQLite itself does not notice them."""
    path = await killed(tmp_path)
    open_and_close(path)
    content = path.read_bytes()
    offsets = [
        content.index(b"QUEUED"),
        content.index(b"s" * 500) + 250,
        content.index(b"job7"),
    ]
    for offset in offsets:
        path.write_bytes(content)
        flip(path, offset)
        with pytest.raises(StateDamaged, match="damaged"):
            open_and_close(path)


async def test_random_damage_to_the_file_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = await killed(tmp_path)
    open_and_close(path)
    content = path.read_bytes()
    expected, refused = dump(path), 0
    choice = random.Random(5)
    for number in range(80):
        damaged = bytearray(content)
        offset = choice.randrange(len(content))
        if number % 4 == 0:
            del damaged[offset:]
        elif number % 4 == 1:
            damaged[offset : offset + 512] = bytes(len(damaged[offset : offset + 512]))
        else:
            damaged[offset] ^= 1 << choice.randrange(8)
        path.write_bytes(damaged)
        try:
            open_and_close(path)
        except StateDamaged:
            refused += 1
        else:
            assert dump(path) == expected, (number, offset)
    assert refused > 40


async def test_the_digest_follows_every_kind_of_change(tmp_path: Path) -> None:
    database = Database(tmp_path / "dbp.sqlite")
    choice = random.Random(3)

    def change(connection: sqlite3.Connection) -> None:
        name = f"job{choice.randrange(30)}"
        if choice.random() < 0.5:
            connection.execute(
                "INSERT INTO attempts (job, attempt, secret_hash) VALUES (?, 1, ?) "
                "ON CONFLICT (job, attempt) DO UPDATE SET secret_hash = excluded.secret_hash",
                (name, choice.randbytes(8)),
            )
        connection.execute(
            "UPDATE events SET time = 2, kind = 'k\u00e4' WHERE job = ?", (name,)
        )
        connection.execute("DELETE FROM events WHERE sequence = ?", (choice.randrange(30),))
        connection.execute(
            "INSERT OR REPLACE INTO requests (id, job, digest) VALUES ('r', ?, 'd')", (name,)
        )
        if choice.random() < 0.3:
            raise KeyError("rolled back")

    for number in range(30):
        await database.write(add(f"job{number}"))
    for _ in range(100):
        try:
            await database.write(change)
        except KeyError:
            continue

    def check(connection: sqlite3.Connection) -> None:
        mark = stored_mark(connection)
        assert computed_digest(connection, mark.commits) == mark.digest

    await database.read(check)
    database.close()
    open_and_close(tmp_path / "dbp.sqlite")


async def test_a_change_that_touches_no_row_is_no_commit(tmp_path: Path) -> None:
    database = Database(tmp_path / "dbp.sqlite")
    await database.write(add("a"))
    mark = (tmp_path / "dbp.sequence").read_bytes()

    await database.write(lambda c: c.execute("UPDATE jobs SET state = '' WHERE id = 'b'"))

    assert (tmp_path / "dbp.sequence").read_bytes() == mark
    database.close()


async def test_the_log_is_emptied_at_start(tmp_path: Path) -> None:
    path = await killed(tmp_path)

    database = Database(path)

    assert log_of(path).stat().st_size == 0
    database.close()


async def test_the_log_stays_bounded_beside_a_reader_that_never_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOG_BYTES", 1 << 20)
    path = tmp_path / "dbp.sqlite"
    database = Database(path)
    largest = 0
    for number in range(100):
        database._reader.execute("BEGIN")
        database._reader.execute("SELECT count(*) FROM jobs").fetchone()
        await database.write(add(f"job{number}", "s" * 60_000))
        database._reader.execute("ROLLBACK")
        await database.write(add(f"other{number}"))
        largest = max(largest, log_of(path).stat().st_size)

    assert largest < 3 << 20
    database.close()
