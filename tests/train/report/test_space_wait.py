"""The end of a launched run on a full disk: wait, report, stop."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from dbp.errors import InvalidInput, RunDiskFull
from dbp.heartbeat.phase import Phase
from dbp.job.state import RunOutcome
from dbp.train.report import run_folder
from dbp.train.report.run_folder import RunFolder
from dbp.train.report.sink import Command
from dbp.train.report.space_wait import KeptCommands, SpaceWait
from tests.train.report.test_run_folder import STARTED, SUCCESS, snapshot


class Disk:
    """Work that fails ``failures`` times; ``stop_after`` tries the run is asked to stop."""

    def __init__(
        self, failures: int, number: int = errno.ENOSPC, *, stop_after: int = 99
    ) -> None:
        self.tries = 0
        self.notes: list[str] = []
        self.beats = 0
        self.asked = Command.NONE
        self._failures, self._number, self._stop_after = failures, number, stop_after
        self.control = KeptCommands(self)
        self.wait = SpaceWait(self.control, self.notes.append, self)

    def poll(self) -> Command:
        asked, self.asked = self.asked, Command.NONE
        return Command.STOP if self.tries >= self._stop_after else asked

    def enter(self, phase: Phase) -> None:
        assert phase is Phase.PUBLISHING
        self.beats += 1

    def begin_step(self, step: int) -> None:
        pass

    def count_collective(self) -> None:
        pass

    def write(self) -> str:
        self.tries += 1
        if self.tries <= self._failures:
            raise OSError(self._number, os.strerror(self._number), "some.file")
        return "written"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbp.train.report.space_wait.RETRY_SECONDS", 0.0)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_write_is_repeated_until_it_fits(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(3, number)

    assert disk.wait(disk.write) == "written"

    text = f"some.file cannot be written: {os.strerror(number)}; the run waits for space"
    assert disk.notes == [text, ""]
    assert [record.message for record in caplog.records] == [text], "one line, not one a try"
    assert (disk.tries, disk.beats) == (4, 4)


def test_a_command_of_the_time_of_the_wait_is_not_lost() -> None:
    disk = Disk(3)
    disk.asked = Command.PUBLISH

    disk.wait(disk.write)

    assert disk.control.poll() is Command.PUBLISH
    assert disk.control.poll() is Command.NONE


def test_a_write_that_fits_is_not_mentioned() -> None:
    disk = Disk(0)

    assert disk.wait(disk.write) == "written"

    assert disk.notes == []


def test_a_run_that_is_asked_to_stop_waits_no_longer() -> None:
    disk = Disk(99, stop_after=2)

    with pytest.raises(OSError, match="No space left"):
        disk.wait(disk.write)

    assert disk.tries == 2
    assert disk.notes[-1] == ""


def test_other_errors_are_raised_at_once() -> None:
    disk = Disk(1, errno.EIO)

    with pytest.raises(OSError, match="Input/output"):
        disk.wait(disk.write)

    assert disk.notes == []


def test_an_error_of_dbp_counts_by_its_cause() -> None:
    disk = Disk(2)

    def write() -> str:
        try:
            return disk.write()
        except OSError as error:
            raise InvalidInput("cannot write a run folder here") from error

    assert disk.wait(write) == "written"
    assert len(disk.notes) == 2


def full_for(monkeypatch: pytest.MonkeyPatch, name: str, failures: int) -> Callable[[], int]:
    """Have a function of the run folder find the disk full so often; returns the calls."""
    write, calls = getattr(run_folder, name), 0

    def limited(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls <= failures:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))
        write(*arguments)

    monkeypatch.setattr(run_folder, name, limited)
    return lambda: calls


def test_a_run_folder_waits_with_its_parameters_and_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, disk = RunFolder.prepare(tmp_path, {}), Disk(0)
    folder.write = disk.wait
    folder.started(STARTED)
    parameters = full_for(monkeypatch, "write_file", 2)
    outcome = full_for(monkeypatch, "write_outcome", 3)

    folder.snapshot(snapshot(np.arange(6, dtype=np.float32)))
    folder.finished(SUCCESS)

    assert load_file(tmp_path / "parameters.safetensors")["0.bias"].tolist() == [4, 5]
    assert (tmp_path / "result.json").exists()
    assert (parameters(), outcome()) == (3, 4)
    assert [bool(note) for note in disk.notes] == [True, False] * 2


def test_a_run_that_is_stopped_while_it_waits_for_its_folder_blames_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder.prepare(tmp_path, {}).close()
    folder, disk = RunFolder.resume(tmp_path, {}), Disk(0, stop_after=0)
    folder.write = disk.wait
    full_for(monkeypatch, "write_file", 99)

    with pytest.raises(RunDiskFull, match="No space left"):
        folder.started(STARTED)
    folder.close()


def test_a_run_started_by_hand_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.prepare(tmp_path, {})
    folder.started(STARTED)
    full_for(monkeypatch, "write_outcome", 1)

    with pytest.raises(OSError, match="No space left"):
        folder.finished(RunOutcome("succeeded", "epochs", 7))
