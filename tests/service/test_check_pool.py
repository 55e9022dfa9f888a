"""Checks of data run in processes that end with their callers, their time and the service."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import InvalidData, InvalidSpec, ResourceExhausted, Unavailable
from dbp.jobs.checks import CheckFailedError, CheckRequest
from dbp.service import check_pool
from dbp.service.check_pool import CheckPool
from tests.deadline import DEADLINE

pytestmark = pytest.mark.processes

GIB = 2**30
PARQUET = Path(__file__).parent / "ends_pyarrow.parquet"  # found by the fuzzer
SLOW_ROWS = 6_000_000  # tens of seconds


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[CheckPool]:
    opened = CheckPool([tmp_path])
    yield opened
    opened.close()


def request(path: Path, **changes: Any) -> CheckRequest:
    document = {
        "name": "checked",
        "data": {"train": {"kind": "csv", "path": str(path)}},
        "model": {"layers": [{"kind": "dense", "units": 2}], "loss": "softmax_cross_entropy"},
        "optimizer": "sgd",
        "train": {"steps": 1, "lanes": 1},
    }
    options: dict[str, Any] = {
        "document": document, "workers": 1, "owner": "ann", "whole": True, "seconds": DEADLINE,
        "memory_bytes": GIB, "confined": False,
    }  # fmt: skip
    return CheckRequest(**{**options, **changes})


def write(path: Path, rows: int, last: str = "1,1,1\n") -> Path:
    path.write_text("0.5,1.25,0\n" * rows + last)
    return path


async def test_a_sound_file_is_checked(pool: CheckPool, tmp_path: Path) -> None:
    found = await pool.check(request(write(tmp_path / "x.csv", 10)))

    assert found.is_whole
    assert found.document["seed"] == 0
    assert len(found.digest) == 64


async def test_errors_arrive_as_they_are_raised(pool: CheckPool, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidData, match=r"data\.train: \S*x\.csv:11: column 0 .* a text is not a number"
    ):
        await pool.check(request(write(tmp_path / "x.csv", 10, "b,1,1\n")))
    with pytest.raises(InvalidSpec) as refused:
        await pool.check(request(write(tmp_path / "x.csv", 10), document={"name": "x"}))
    assert "data" in {violation.path for violation in refused.value.violations}


async def test_a_confined_job_reads_nothing_without_data_roots(tmp_path: Path) -> None:
    opened = CheckPool(None)  # the service was started again without --data-root
    path = write(tmp_path / "x.csv", 10)
    try:
        await opened.check(request(path))
        with pytest.raises(InvalidSpec, match="data-root"):
            await opened.check(request(path, confined=True))
    finally:
        opened.close()


async def test_only_the_first_rows_are_checked_if_asked(
    pool: CheckPool, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.csv", 1_000_000, "b,1,1\n")

    found = await pool.check(request(path, whole=False))

    assert not found.is_whole


async def test_an_abandoned_check_ends_at_once(pool: CheckPool, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", SLOW_ROWS)
    small = write(tmp_path / "small.csv", 10)
    abandoned = [asyncio.create_task(pool.check(request(path))) for _ in range(12)]
    while not pool._running:
        await asyncio.sleep(0.01)
    (process,) = pool._running
    for task in abandoned:
        task.cancel()
    await asyncio.gather(*abandoned, return_exceptions=True)

    assert not pool._running
    assert process.returncode == -signal.SIGKILL
    await pool.check(request(small))


async def test_checks_of_one_owner_do_not_hold_up_another(
    pool: CheckPool, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.csv", SLOW_ROWS)
    slow = [asyncio.create_task(pool.check(request(path))) for _ in range(5)]
    while not pool._running:
        await asyncio.sleep(0.01)

    await pool.check(request(write(tmp_path / "small.csv", 10), owner="bob"))

    assert not any(task.done() for task in slow)
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


async def test_a_check_beyond_its_time_is_killed(pool: CheckPool, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", SLOW_ROWS)

    with pytest.raises(CheckFailedError, match="takes more than 1 s"):
        await pool.check(request(path, seconds=1))

    assert not pool._running


async def test_a_check_beyond_its_memory_fails(pool: CheckPool, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 400_000)

    with pytest.raises(CheckFailedError, match=r"more than 8\.4 MB of memory"):
        await pool.check(request(path, memory_bytes=8 * 2**20))


async def test_the_end_of_the_service_ends_all_checks(pool: CheckPool, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", SLOW_ROWS)
    tasks = [asyncio.create_task(pool.check(request(path))) for _ in range(3)]
    while not pool._running:
        await asyncio.sleep(0.01)
    begin = time.monotonic()
    pool.close()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(answer) for answer in answers] == [Unavailable] * 3
    assert time.monotonic() - begin < 5


async def test_too_many_waiting_checks_are_refused(
    pool: CheckPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_pool, "WAITING", 2)
    path = write(tmp_path / "x.csv", SLOW_ROWS)
    tasks = [asyncio.create_task(pool.check(request(path))) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(ResourceExhausted, match="2 checks of your data wait already"):
        await pool.check(request(path))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_file_that_makes_a_library_end_the_process_is_refused(
    pool: CheckPool, tmp_path: Path
) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(PARQUET.read_bytes())
    document = {
        **request(path).document,
        "data": {"train": {"kind": "parquet", "path": str(path), "target": "y"}},
    }

    # Other versions of pyarrow raise an error.
    with pytest.raises(InvalidData, match=r"ended with signal 6|cannot be read as Parquet"):
        await pool.check(request(path, document=document))
