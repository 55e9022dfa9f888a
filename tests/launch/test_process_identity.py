from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dbp.launch import process_identity
from dbp.launch.process_identity import ProcessIdentity
from tests.deadline import until

BOOT = "a74f8907-980f-466b-8dd5-c833b4b9507d"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def folder_of_processes(
    tmp_path: Path, *, start: int = 500, boot: str = BOOT, state: str = "S", btime: int = 1000
) -> Path:
    """A /proc with one process, whose name looks like the fields after it."""
    (tmp_path / "17").mkdir(parents=True, exist_ok=True)
    after = f"{state} 1 17 17 0 -1 4194304 {' 0' * 12} {start} 4096 20"
    (tmp_path / "17/stat").write_text(f"17 (a) Z 9 (b) {after}\n")
    (tmp_path / "sys/kernel/random").mkdir(parents=True, exist_ok=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text(boot + "\n")
    (tmp_path / "stat").write_text(f"btime {btime}\n")
    return tmp_path


def test_a_process_is_its_pid_its_ticks_and_its_boot(tmp_path: Path) -> None:
    known = ProcessIdentity.of(17, folder_of_processes(tmp_path))

    assert known == ProcessIdentity(17, "500", BOOT)
    assert known.lives(folder_of_processes(tmp_path, btime=999_999)), "the clock was set"
    assert not known.lives(folder_of_processes(tmp_path, start=501)), "the pid was reused"
    assert not known.lives(folder_of_processes(tmp_path, boot="another")), "after a reboot"
    assert ProcessIdentity.of(18, tmp_path) is None


@pytest.mark.parametrize("state", ["Z", "X"])
def test_a_process_that_waits_for_its_parent_exists_but_does_not_live(
    tmp_path: Path, state: str
) -> None:
    proc = folder_of_processes(tmp_path, state=state)
    known = ProcessIdentity.of(17, proc)

    assert known is not None
    assert known.exists(proc)
    assert not known.lives(proc)


def test_an_identity_survives_in_json() -> None:
    known = ProcessIdentity(17, "500", BOOT)

    assert ProcessIdentity.from_json({"more": 1, **known.to_json()}) == known
    assert ProcessIdentity.from_json({"pid": 17, "create_time": 5.0}) is None


@pytest.mark.parametrize("linux", [True, False])
def test_a_real_process_lives_until_its_end(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, linux: bool
) -> None:
    """Without /proc, as on macOS, psutil identifies processes."""
    if linux and not Path("/proc/self/stat").exists():
        pytest.skip("no /proc here")
    monkeypatch.setattr(process_identity, "_LINUX", linux)
    known = ProcessIdentity.of(sleeper.pid)
    assert known is not None
    assert known.lives()
    assert known != ProcessIdentity.of(os.getpid())
    if not linux:
        assert known.start == repr(psutil.Process(sleeper.pid).create_time())

    known.send(signal.SIGKILL)

    until(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE)
    assert known.exists()
    assert not known.lives()
    sleeper.wait()
    assert not known.exists()
    known.send(signal.SIGKILL)  # a process that is gone is no error


@pytest.mark.parametrize("linux", [True, False])
def test_a_signal_never_reaches_another_process_with_the_pid(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, linux: bool
) -> None:
    monkeypatch.setattr(process_identity, "_LINUX", linux)
    known = ProcessIdentity.of(sleeper.pid)
    assert known is not None
    earlier = ProcessIdentity(known.pid, "1", known.boot)

    earlier.send(signal.SIGKILL)
    known.send(signal.SIGSTOP)

    until(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_STOPPED)


@pytest.mark.skipif(sys.platform != "linux", reason="process descriptors are Linux's")
def test_signals_are_sent_where_the_kernel_has_no_process_descriptors(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    known = ProcessIdentity.of(sleeper.pid)
    assert known is not None

    known.send(signal.SIGTERM)

    assert sleeper.wait() == -signal.SIGTERM
