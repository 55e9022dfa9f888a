"""The file of the metrics history: opened late, whole after a kill, replaced when damaged."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from dbp.errors import Conflict, DataLoss, Unavailable
from dbp.storage.metrics_file import METRICS_SCHEMA, MetricsFile, copy_metrics, open_metrics
from dbp.storage.verification import log_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.sqlite"


def insert(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO series (job, name, kind) VALUES ('a', 'loss', 'steps')")


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM series").fetchone()[0])


async def test_no_file_is_made_before_the_first_write(path: Path) -> None:
    file = MetricsFile(path)

    assert await file.read(count, -1) == -1
    assert not await file.copy_to(path.with_name("copy"))
    file.close()
    assert not path.exists()


async def test_an_opening_syncs_the_batches_that_a_kill_left_in_the_log(
    path: Path, tmp_path: Path
) -> None:
    left = tmp_path / "left.sqlite"
    with contextlib.closing(open_metrics(path)) as connection:
        insert(connection)
        for of_the_file in ("", "-wal"):
            shutil.copy(f"{path}{of_the_file}", f"{left}{of_the_file}")
    assert log_of(left).stat().st_size

    with contextlib.closing(open_metrics(left)) as connection:
        assert log_of(left).stat().st_size == 0  # a checkpoint syncs what it moves
        assert count(connection) == 1


async def test_rows_are_there_for_the_next_service(path: Path) -> None:
    with contextlib.closing(MetricsFile(path)) as file:
        await file.write(insert)
    with contextlib.closing(MetricsFile(path)) as file:
        assert await file.read(count, -1) == 1
        assert path.stat().st_mode & 0o777 == 0o600


async def test_a_change_that_fails_leaves_nothing(path: Path) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        insert(connection)
        raise KeyError

    with contextlib.closing(MetricsFile(path)) as file:
        with pytest.raises(KeyError):
            await file.write(fail)
        assert await file.read(count, -1) == 0


@pytest.mark.parametrize("size", [100, 5_000])
async def test_a_damaged_file_is_moved_aside(path: Path, size: int) -> None:
    path.write_bytes(b"x" * size)

    with contextlib.closing(MetricsFile(path)) as file:
        with pytest.raises(DataLoss, match="the metrics before now are lost"):
            await file.write(insert)
        await file.write(insert)
        assert await file.read(count, -1) == 1

    assert path.with_name("metrics.sqlite.damaged").read_bytes() == b"x" * size


async def test_the_file_of_a_newer_dbp_is_left_alone(path: Path) -> None:
    with contextlib.closing(open_metrics(path)) as connection:
        connection.execute(f"PRAGMA user_version = {METRICS_SCHEMA + 1}")
    before = path.read_bytes()

    file = MetricsFile(path)
    with pytest.raises(Conflict, match="upgrade dbp"):
        await file.write(insert)
    file.close()

    assert path.read_bytes() == before


async def test_a_copy_has_the_committed_rows(path: Path) -> None:
    copy = path.with_name("copy")
    with contextlib.closing(MetricsFile(path)) as file:
        await file.write(insert)
        assert await file.copy_to(copy)

    copy_metrics(path, path.with_name("second"))

    for made in (copy, path.with_name("second")):
        with contextlib.closing(open_metrics(made)) as connection:
            assert count(connection) == 1


def test_no_file_or_a_damaged_one_is_not_copied(path: Path) -> None:
    copy = path.with_name("copy")
    copy_metrics(path, copy)
    path.write_bytes(b"x" * 5_000)

    copy_metrics(path, copy)

    assert not copy.exists()


def test_the_file_of_a_newer_dbp_is_not_copied(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(open_metrics(path)) as connection:
        connection.execute(f"PRAGMA user_version = {METRICS_SCHEMA + 1}")

    copy_metrics(path, path.with_name("copy"))

    assert not path.with_name("copy").exists()
    assert "not in the backup" in caplog.text


async def test_a_damaged_file_that_cannot_be_moved_is_an_error_of_the_service(
    path: Path,
) -> None:
    path.write_bytes(b"x" * 5_000)
    path.with_name("metrics.sqlite.damaged").mkdir()

    file = MetricsFile(path)
    with pytest.raises(Unavailable, match="damaged, and not moved aside: Is a directory"):
        await file.write(insert)
    file.close()


async def test_a_closed_file_takes_no_calls(path: Path) -> None:
    file = MetricsFile(path)
    file.close()

    with pytest.raises(Unavailable):
        await file.write(insert)


async def test_a_file_that_the_system_refuses_is_named(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))

    file = MetricsFile(path)
    with pytest.raises(Unavailable, match=r"metrics\.sqlite: .*symbolic links"):
        await file.write(insert)
    file.close()

    assert not path.with_name("elsewhere").exists()
