"""Facts of processes in /proc, real and injected."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dbp.process_stat import moved_bytes, process_stat, waits_in
from tests.deadline import until

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def test_facts_of_this_process_are_found() -> None:
    found = process_stat(os.getpid())

    assert found is not None
    assert (found.state, found.parent) == ("R", os.getppid())
    assert found.start_ticks > 0
    assert found.cpu_ticks > 0


def test_a_name_with_spaces_and_parentheses_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    numbers = " ".join(map(str, range(1, 50)))
    (tmp_path / "7" / "stat").write_text(f"7 (a ) S 9 (b) T {numbers}\n")

    found = process_stat(7, tmp_path)

    assert found is not None
    assert (found.state, found.parent, found.start_ticks) == ("T", 1, 19)
    assert (found.cpu_ticks, found.faults) == (11 + 12, 9)


def test_a_process_that_is_gone_has_no_facts(tmp_path: Path) -> None:
    assert process_stat(7, tmp_path) is None
    assert moved_bytes(7, tmp_path) == 0
    assert waits_in(7, tmp_path) == ""


def test_bytes_that_a_process_moves_are_counted() -> None:
    before = moved_bytes(os.getpid())

    Path(__file__).read_bytes()

    assert moved_bytes(os.getpid()) >= before + Path(__file__).stat().st_size


def test_a_stopped_process_is_recognized() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        os.kill(child.pid, signal.SIGSTOP)
        until(lambda: (found := process_stat(child.pid)) is not None and found.state == "T")
        child.kill()
