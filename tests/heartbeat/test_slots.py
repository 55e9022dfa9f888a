"""Heartbeats in a file that several processes write and others read."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import timeit
from pathlib import Path

import pytest

from dbp.heartbeat import slots
from dbp.heartbeat.phase import NO_HEARTBEAT, Phase
from dbp.process_stat import process_stat

CHILD = """
import sys
from pathlib import Path
from dbp.heartbeat.phase import Phase
from dbp.heartbeat.slots import FIRST_RANK, SlotHeartbeat
heartbeat = SlotHeartbeat(Path(sys.argv[1]), FIRST_RANK + 1)
heartbeat.begin_step(41)
heartbeat.begin_step(42)
heartbeat.enter(Phase.EXCHANGE)
for _ in range(3):
    heartbeat.count_collective()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "heartbeats"
    slots.create(path, ranks=2)
    return path


def test_a_process_reports_to_others(path: Path) -> None:
    before = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", CHILD, str(path)]) as child:
        pass

    beats = slots.read(path)
    beat = beats[slots.FIRST_RANK + 1]

    assert child.returncode == 0
    assert len(beats) == slots.FIRST_RANK + 2
    assert beats[slots.FIRST_RANK].pid == 0, "this rank has not reported"
    assert (beat.pid, beat.step, beat.phase) == (child.pid, 42, Phase.EXCHANGE)
    assert (beat.count, beat.collectives) == (4, 3)
    assert before < beat.time < time.monotonic()
    assert 0 < beat.median_step_seconds < time.monotonic() - before


def test_a_line_identifies_its_process(path: Path) -> None:
    slots.SlotHeartbeat(path, slots.SUPERVISOR)

    beat = slots.read(path)[slots.SUPERVISOR]
    known = process_stat(os.getpid())

    assert beat.pid == os.getpid()
    assert known is None or beat.start == known.start_ticks


def test_the_median_step_ignores_a_few_long_ones(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000_000_000]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    heartbeat = slots.SlotHeartbeat(path, slots.FIRST_RANK)
    for step in range(30):
        heartbeat.begin_step(step)
        now[0] += 60_000_000_000 if step % 10 == 9 else 2_000_000_000

    assert slots.read(path)[slots.FIRST_RANK].median_step_seconds == 2.0


def test_the_file_is_private_and_made_once(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        slots.create(path, ranks=2)


@pytest.mark.parametrize("content", [b"", b"x" * 64, b"x" * 100])
def test_other_files_hold_no_heartbeats(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)

    assert slots.read(tmp_path / "other") == []
    assert slots.read(tmp_path / "missing") == []


def test_a_process_without_a_file_has_a_heartbeat_that_does_nothing(path: Path) -> None:
    missing = {slots.VARIABLE: str(path) + "-missing"}
    outside = slots.FIRST_RANK + 2

    assert slots.make_heartbeat({}, slots.LINK) is NO_HEARTBEAT
    assert slots.make_heartbeat(missing, slots.LINK) is NO_HEARTBEAT
    assert slots.make_heartbeat({slots.VARIABLE: str(path)}, outside) is NO_HEARTBEAT


def test_a_report_takes_microseconds_at_most(path: Path) -> None:
    """The limit is far above the cost (0.24 us), so that other load does not fail the test."""
    heartbeat = slots.SlotHeartbeat(path, slots.FIRST_RANK)

    best = min(timeit.repeat(lambda: heartbeat.enter(Phase.UPDATE), number=1_000, repeat=20))

    assert best / 1_000 < 5e-6
