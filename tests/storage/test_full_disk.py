"""The ballast: records that are stored on a full disk, and space that comes back."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dbp.errors import DiskFull, ResourceExhausted
from dbp.storage import full_disk
from dbp.storage.database import Database
from dbp.storage.full_disk import BALLAST_BYTES, CHUNK_BYTES, Ballast, is_full
from dbp.storage.state_folder import StateFolder
from tests.small_disk import SmallDisk, small_disk
from tests.storage.test_database import add, names

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", "16m") as mounted:
        yield mounted


class Fullness:
    """Work that fails until so many chunks of a ballast are released."""

    def __init__(self, ballast: Ballast, chunks: int, error: Exception = FULL) -> None:
        self._ballast, self._error = ballast, error
        self._enough = ballast.held - chunks * CHUNK_BYTES
        self.tries = 0

    def __call__(self) -> str:
        self.tries += 1
        if self._ballast.held > self._enough:
            raise self._error
        return "done"


@pytest.mark.parametrize("error", [FULL, DiskFull("the disk is full")])
def test_space_is_released_chunk_by_chunk_until_the_work_succeeds(
    tmp_path: Path, error: Exception
) -> None:
    ballast = Ballast(tmp_path / "ballast")
    work = Fullness(ballast, 2, error)

    assert ballast.run(work) == "done"

    assert work.tries == 3
    size = (tmp_path / "ballast").stat().st_size
    assert size == ballast.held == BALLAST_BYTES - 2 * CHUNK_BYTES
    assert Ballast(tmp_path / "ballast").held == BALLAST_BYTES, "made again at the next start"


def test_the_error_is_raised_when_nothing_is_left_to_release(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast", size=CHUNK_BYTES)

    with pytest.raises(OSError, match="No space left") as caught:
        ballast.run(Fullness(ballast, 9))

    assert is_full(caught.value)
    assert ballast.held == 0


def test_other_errors_release_nothing(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast")

    with pytest.raises(PermissionError):
        ballast.run(Fullness(ballast, 1, PermissionError(errno.EACCES, "no")))

    assert ballast.held == BALLAST_BYTES


def test_the_ballast_is_made_again_once_the_disk_has_space_beyond_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, now = 0, 100.0
    fields = os.statvfs(tmp_path)

    def statvfs(_: Path) -> os.statvfs_result:
        values = list(fields)
        values[4] = free // fields.f_frsize  # f_bavail
        return os.statvfs_result(values)

    monkeypatch.setattr(time, "monotonic", lambda: now)
    ballast = Ballast(tmp_path / "ballast")
    now += full_disk.RESTORE_SECONDS
    monkeypatch.setattr(os, "statvfs", statvfs)
    assert ballast.release()

    ballast.restore()
    assert ballast.held < BALLAST_BYTES
    free = CHUNK_BYTES + full_disk.MARGIN_BYTES
    ballast.restore()
    assert ballast.held < BALLAST_BYTES, "asked again too soon"
    now += full_disk.RESTORE_SECONDS
    ballast.restore()

    assert ballast.held == (tmp_path / "ballast").stat().st_size == BALLAST_BYTES


def test_zeros_are_written_where_a_system_cannot_allocate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")

    ballast = Ballast(tmp_path / "ballast", size=100_000)

    assert ballast.held == 100_000
    assert (tmp_path / "ballast").read_bytes() == bytes(100_000)


async def test_only_a_reserved_change_uses_the_ballast(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast")
    with closing(Database(tmp_path / "dbp.sqlite", ballast=ballast)) as database:
        full = True

        def change(name: str) -> sqlite3.Connection:
            def insert(connection: sqlite3.Connection) -> None:
                add(name)(connection)
                if full and ballast.held == BALLAST_BYTES:
                    connection.execute("PRAGMA max_page_count = 1")
                    connection.execute("CREATE TABLE large AS SELECT zeroblob(1000000)")
                connection.execute("PRAGMA max_page_count = 100000")

            return insert  # type: ignore[return-value]

        with pytest.raises(ResourceExhausted, match="disk is full; nothing was changed"):
            await database.write(change("a"))  # type: ignore[arg-type]
        assert ballast.held == BALLAST_BYTES
        await database.write(change("b"), reserved=True)  # type: ignore[arg-type]

        assert await database.read(names) == ["b"]
        assert ballast.held == BALLAST_BYTES - CHUNK_BYTES


@contextmanager
def opened(disk: SmallDisk) -> Iterator[tuple[StateFolder, Database]]:
    with (
        StateFolder(disk.path / "state") as folder,
        closing(Database(folder.database_file, ballast=folder.ballast)) as database,
    ):
        yield folder, database


async def test_records_are_stored_on_a_disk_without_a_free_byte(disk: SmallDisk) -> None:
    async def fill(database: Database) -> None:
        for number in range(1_000):
            await database.write(add(f"refused{number}"))

    with opened(disk) as (folder, database):
        await database.write(add("first"))
        await database.write(add("second"))
        # The log may have space for more, however full the disk is.
        await database.write(lambda c: c.execute("DELETE FROM jobs WHERE id = 'second'"))
        disk.fill()
        with pytest.raises(ResourceExhausted, match="disk is full"):
            await fill(database)
        known = len(await database.read(names))
        assert known == 1, "the last space is for other records"
        for number in range(50):
            await database.write(add(f"stored{number}"), reserved=True)
            disk.fill()  # others take the released space that was not needed
        assert len(await database.read(names)) == known + 50
        assert 0 < folder.ballast.held < BALLAST_BYTES
        disk.free()

        folder.ballast._due = 0.0
        await database.write(add("later"))

        assert folder.ballast.held == BALLAST_BYTES


async def test_a_state_folder_can_be_opened_on_a_full_disk(disk: SmallDisk) -> None:
    with opened(disk) as (_, database):
        await database.write(add("a"))
    disk.fill()

    with opened(disk) as (folder, database):
        folder.announce("127.0.0.1:5327")
        await database.write(add("b"), reserved=True)
        assert await database.read(names) == ["a", "b"]


def test_a_new_state_folder_on_a_full_disk_is_refused(disk: SmallDisk) -> None:
    disk.fill()

    with pytest.raises(OSError, match="No space left"):
        StateFolder(disk.path / "state")
