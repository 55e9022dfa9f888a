"""Attempts on a full disk: the record of their end, and the lines of their log."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbp.launch import exit_record
from dbp.launch.attempt_files import AttemptFiles
from dbp.launch.attempt_log import AttemptLog
from dbp.launch.exit_record import RESERVED_BYTES, reserve_exit, write_exit
from dbp.launch.launcher import Exit
from dbp.launch.mpirun import MpirunLauncher
from dbp.storage.atomic_file import write_private
from tests.jobs.fakes import until
from tests.launch.attempts import ended, log, request, start
from tests.small_disk import SmallDisk, small_disk

# Prints numbered lines, each when a file of that number exists; then ends with code 3.
SPEAKS = """
import pathlib, sys, time
print("ready", flush=True)
for number in range(3):
    while not pathlib.Path(f"{place}/{number}").exists():
        time.sleep(0.01)
    print(f"line {number} " + "x" * 5_000, flush=True)
    pathlib.Path(f"{place}/{number}").unlink()
sys.exit(3)
"""
RECORD = {"exit_code": 0, "signal": 0, "log_tail": ["one", "two"], "stopped": False}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", "1m") as mounted:
        yield mounted


async def say(place: Path, folder: Path, number: int) -> None:
    """Have the script print a line, and wait until the supervisor has handled it."""
    before = (folder / "log.txt").stat().st_mtime_ns  # changed by a failed write, too
    (place / str(number)).touch()
    await until(lambda: (folder / "log.txt").stat().st_mtime_ns > before)


async def test_the_end_of_a_run_is_recorded_on_a_full_disk(
    tmp_path: Path, disk: SmallDisk
) -> None:
    script = f"place = {str(tmp_path)!r}\n{SPEAKS}"
    running, folder = await start(disk.path, script)
    disk.fill()
    for number in range(3):
        await say(tmp_path, folder, number)

    found = await ended(running)

    assert (found.exit_code, found.lost) == (3, False)
    assert any(line.startswith("line 2") for line in found.log_tail)
    # The note fits if the last block of the log has space for it.
    text = "3 lines (15,024 bytes) could not be written here: No space left on device"
    assert text in log(folder) + found.log_tail[-1]
    again = await MpirunLauncher(1).adopt(folder)
    assert again is not None
    assert await ended(again) == found, "it is durable"


async def test_lines_that_did_not_fit_are_counted_when_there_is_space(
    tmp_path: Path, disk: SmallDisk
) -> None:
    script = f"place = {str(tmp_path)!r}\n{SPEAKS}"
    running, folder = await start(disk.path, script)
    disk.fill()
    for number in range(2):
        await say(tmp_path, folder, number)
    disk.free()
    await say(tmp_path, folder, 2)
    found = await ended(running)

    text = log(folder)
    assert "line 2" in text
    assert "[dbp] 2 lines (10,016 bytes) could not be written here: No space left" in text
    assert not any("could not be written" in line for line in found.log_tail)


async def test_a_launch_on_a_full_disk_says_so_and_can_be_repeated(disk: SmallDisk) -> None:
    launcher = MpirunLauncher(1, make_command=lambda *_: ["true"])
    disk.fill()
    with pytest.raises(OSError, match="No space left") as caught:
        await launcher.start(request(disk.path))
    assert caught.value.errno == errno.ENOSPC
    disk.free()

    running = await launcher.start(request(disk.path))

    assert (await ended(running)).exit_code == 0


def test_the_record_takes_no_space_beyond_the_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = AttemptFiles(tmp_path)
    reserve_exit(files)
    assert (tmp_path / ".exit.json").stat().st_size == RESERVED_BYTES
    written: list[int] = []
    pwrite, opened = os.pwrite, os.open

    def within(descriptor: int, data: bytes, offset: int) -> int:
        written.append(offset + len(data))
        return pwrite(descriptor, data, offset)

    def existing(path: Path, flags: int, *mode: int) -> int:
        assert not flags & os.O_CREAT, "a new file takes space"
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "pwrite", within)
    monkeypatch.setattr(os, "open", existing)
    write_exit(files, RECORD)

    assert json.loads((tmp_path / "exit.json").read_bytes()) == RECORD
    assert max(written) <= RESERVED_BYTES
    assert not (tmp_path / ".exit.json").exists()


def test_a_record_that_cannot_be_cut_is_json_nevertheless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = AttemptFiles(tmp_path)
    reserve_exit(files)
    monkeypatch.setattr(os, "ftruncate", refuse)

    write_exit(files, RECORD)

    assert (tmp_path / "exit.json").stat().st_size == RESERVED_BYTES
    assert json.loads((tmp_path / "exit.json").read_bytes()) == RECORD


def test_a_long_tail_is_cut_at_its_beginning(tmp_path: Path) -> None:
    files = AttemptFiles(tmp_path)
    reserve_exit(files)
    tail = [f"{number} " + "\x00" * 2_000 for number in range(20)]

    write_exit(files, RECORD | {"log_tail": tail})

    content = (tmp_path / "exit.json").read_bytes()
    kept = json.loads(content)["log_tail"]
    assert len(content) <= RESERVED_BYTES
    assert kept == tail[-len(kept) :]
    assert len(kept) >= 5


def test_a_record_without_reserved_space_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def full_twice(path: Path, content: bytes) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_private(path, content)

    monkeypatch.setattr(exit_record, "write_private", full_twice)
    monkeypatch.setattr(exit_record, "RETRY_SECONDS", 0.0)

    write_exit(AttemptFiles(tmp_path), RECORD)

    assert tries == 3
    assert json.loads((tmp_path / "exit.json").read_bytes()) == RECORD


def test_other_errors_end_the_wait(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_exit(AttemptFiles(tmp_path / "gone"), RECORD)


def test_a_second_try_of_an_attempt_forgets_the_record_of_the_first(tmp_path: Path) -> None:
    files = AttemptFiles(tmp_path)
    files.exit.write_text("{}")

    reserve_exit(files)

    assert not files.exit.exists()


def test_dropped_lines_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, write = False, os.write

    def limited(descriptor: int, data: bytes) -> int:
        if full:
            if len(data) > 2:
                return write(descriptor, data[:2])  # a part fits
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", limited)
    output = AttemptLog(tmp_path / "log.txt")
    output.write(b"first\n")
    full = True
    output.write(b"one\ntwo\n")
    output.write(b"three\n")
    assert output.tail()[-1].startswith("[dbp] 3 lines (14 bytes) could not be written here")
    full = False
    output.write(b"last\n")
    output.close()

    assert (tmp_path / "log.txt").read_text() == (
        "first\n\n[dbp] 3 lines (14 bytes) could not be written here: "
        "No space left on device\nlast\n"
    )
    assert output.tail() == ["first", "one", "two", "three", "last"]


def test_the_record_is_what_the_launcher_reads() -> None:
    assert set(RECORD) <= set(Exit.__dataclass_fields__)
