from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dbp.errors import Conflict
from dbp.train.report.run_lock import LOCK, RunLock

HOLDER = """
import sys, time
from pathlib import Path
from dbp.train.report.run_lock import RunLock

lock = RunLock.take(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(600)
"""


def test_the_death_of_a_process_releases_its_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(Conflict, match=f"process {holder.pid} on "):
            RunLock.take(tmp_path)
        holder.kill()
        holder.wait()

    assert (tmp_path / LOCK).exists()
    lock = RunLock.take(tmp_path)
    lock.release()
    lock.release()
    assert not (tmp_path / LOCK).exists()


def test_a_lock_on_a_file_that_its_holder_has_removed_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    removed: list[int] = []
    flock = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        if not removed:
            removed.append(descriptor)
            (tmp_path / LOCK).unlink()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    lock = RunLock.take(tmp_path)

    assert (tmp_path / LOCK).exists()
    with pytest.raises(Conflict):
        RunLock.take(tmp_path)
    lock.release()


def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import errno
    import fcntl

    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    RunLock.take(tmp_path).release()

    assert "has no locks" in caplog.text
