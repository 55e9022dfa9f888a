from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dbp.job.state import Job, State, StreamEndReason
from dbp.jobs.logs import BLOCK_BYTES, attempt_ended, read_log
from dbp.jobs.watch_items import End, Heartbeat, LogChunk, LogItem
from dbp.launch.attempt_log import TAIL_BYTES, AttemptLog


async def read(path: Path, offset: int = 0, *, ended: bool = True) -> list[LogItem]:
    items = read_log(
        path, offset, follow=False, ended=lambda: ended, draining=lambda: False,
        heartbeat_seconds=60,
    )  # fmt: skip
    return [item async for item in items]


async def test_whole_lines_come_with_the_offset_after_them(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes("one\ntwo\r\n\nfünf\nunfinished".encode())

    running = await read(path, ended=False)
    ended = await read(path)

    assert running == [
        LogChunk(("one", "two", "", "fünf"), 16),
        End(StreamEndReason.END_OF_LOG, 16),
    ]
    assert ended[1:] == [LogChunk(("unfinished",), 26), End(StreamEndReason.JOB_ENDED, 26)]
    assert await read(path, 4, ended=False) == [
        LogChunk(("two", "", "fünf"), 16),
        End(StreamEndReason.END_OF_LOG, 16),
    ]


async def test_reading_again_from_each_offset_loses_and_repeats_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    expected = [f"line {number} " + "x" * (number % 300) for number in range(2_000)]
    path.write_text("\n".join(expected) + "\n")
    lines: list[str] = []
    offset = 0

    while True:
        first = (await read(path, offset))[0]
        if isinstance(first, End):
            break
        assert isinstance(first, LogChunk)
        lines += first.lines
        offset = first.next_offset

    assert lines == expected


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("character", ["é", "€", "😀"])
async def test_an_endless_line_is_cut_between_characters(
    tmp_path: Path, character: str, shift: int
) -> None:
    path = tmp_path / "log.txt"
    line = "x" * shift + character * BLOCK_BYTES
    path.write_text(line + "\n")
    offset, read_back = 0, ""

    while not isinstance(item := (await read(path, offset))[0], End):
        assert isinstance(item, LogChunk)
        read_back += "".join(item.lines)
        offset = item.next_offset

    assert read_back == line


@pytest.mark.parametrize("shift", range(4))
def test_a_full_log_is_cut_between_characters(tmp_path: Path, shift: int) -> None:
    path = tmp_path / "log.txt"
    log = AttemptLog(path, limit=1_001)
    data = ("x" * shift + "😀" * 2 * TAIL_BYTES).encode()

    for start in range(0, len(data), 1_003):  # reads of a pipe cut characters as well
        log.write(data[start : start + 1_003])
    tail = log.tail()
    log.close()

    assert set(path.read_text()) >= {"😀"}  # not UTF-8 otherwise
    assert set(tail[-1]) == {"😀"}


async def test_an_endless_line_comes_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"y" * (2 * BLOCK_BYTES + 5))

    items = await read(path)

    assert [item.next_offset for item in items if isinstance(item, LogChunk)] == [
        BLOCK_BYTES, 2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 5,
    ]  # fmt: skip


async def test_following_ends_when_the_job_has_and_all_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    ended = False
    items = read_log(
        path, 0, follow=True, ended=lambda: ended, draining=lambda: False, heartbeat_seconds=60
    )
    pending = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0.01)
    assert not pending.done(), "there is no file yet: it waits"

    path.write_text("first\nhalf")
    assert await pending == LogChunk(("first",), 6)
    with path.open("a") as file:
        file.write(" done\nlast")
    ended = True

    assert [item async for item in items] == [
        LogChunk(("half done",), 16), LogChunk(("last",), 20),
        End(StreamEndReason.JOB_ENDED, 20),
    ]  # fmt: skip


async def test_following_ends_when_the_service_drains(tmp_path: Path) -> None:
    items = read_log(
        tmp_path / "log.txt", 0, follow=True, ended=lambda: False, draining=lambda: True,
        heartbeat_seconds=60,
    )  # fmt: skip

    assert [item async for item in items] == [End(StreamEndReason.DRAINING, 0)]


def test_a_capped_log_keeps_beginning_and_end_and_marks_the_gap(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    log = AttemptLog(path, limit=1_000)
    for number in range(100_000):
        log.write(b"%d\n" % number)
    size = path.stat().st_size
    log.close()

    lines = path.read_text().splitlines()
    assert size < 1_200
    assert path.stat().st_size < 1_200 + TAIL_BYTES + 100
    assert lines[:3] == ["0", "1", "2"]
    assert lines[-1] == "99999"
    assert sum("the log has reached 1000 bytes" in line for line in lines) == 1
    (left_out,) = [line for line in lines if "bytes are left out here" in line]
    assert int(left_out.split()[1]) == 588_890 - 1_000 - TAIL_BYTES
    assert log.tail()[-2:] == ["99998", "99999"]


def test_a_small_log_is_untouched(tmp_path: Path) -> None:
    log = AttemptLog(tmp_path / "log.txt", limit=8)
    log.write(b"one\n")
    log.write(b"two")
    log.close()

    assert (tmp_path / "log.txt").read_bytes() == b"one\ntwo"


async def test_a_log_without_new_lines_is_followed_with_heartbeats(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("first\n")
    items = read_log(
        path, 0, follow=True, ended=lambda: False, draining=lambda: False,
        heartbeat_seconds=0.02,
    )  # fmt: skip

    found = [await anext(items) for _ in range(3)]

    assert found == [LogChunk(("first",), 6), Heartbeat(6), Heartbeat(6)]
    await items.aclose()


async def test_the_end_of_a_log_is_not_that_of_a_job_that_goes_on(tmp_path: Path) -> None:
    items = read_log(
        tmp_path / "log.txt", 0, follow=True, ended=lambda: True, draining=lambda: False,
        heartbeat_seconds=60, continues=lambda: True,
    )  # fmt: skip

    assert [item async for item in items] == [End(StreamEndReason.END_OF_LOG, 0)]


def test_an_attempt_ends_with_its_job_or_before_the_next_one() -> None:
    def job(state: State, attempt: int) -> Job:
        return Job("a", {}, "", 1, state, 0.0, attempt=attempt)

    assert attempt_ended(None, 1)
    assert not attempt_ended(job(State.QUEUED, 0), 1)
    assert not attempt_ended(job(State.RUNNING, 1), 1)
    assert attempt_ended(job(State.QUEUED, 1), 1)
    assert attempt_ended(job(State.PAUSED, 1), 1)
    assert attempt_ended(job(State.RUNNING, 2), 1)
