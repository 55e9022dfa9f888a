from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dbp.launch.process_tree import MARK, descendants, end_all, marked
from tests.deadline import until

STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"  # noqa: E501


@pytest.fixture
def stubborn(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {MARK: str(tmp_path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_processes_are_found_by_their_mark(
    stubborn: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert [process.pid for process in marked(tmp_path)] == [stubborn.pid]
    assert marked(tmp_path / "other") == []


def test_those_who_ignore_a_request_are_killed_even_when_stopped(
    stubborn: subprocess.Popen[str], tmp_path: Path
) -> None:
    os.kill(stubborn.pid, signal.SIGSTOP)
    begin = time.monotonic()

    assert end_all(lambda: marked(tmp_path), grace=0.2)

    assert time.monotonic() - begin >= 0.2
    assert stubborn.wait() == -signal.SIGKILL


def test_the_end_is_not_awaited_for_ever(stubborn: subprocess.Popen[str]) -> None:
    survivor = psutil.Process(stubborn.pid)
    survivor.kill = lambda: None  # type: ignore[method-assign]

    assert not end_all(lambda: [survivor], grace=0.0, limit=0.1)


def test_children_are_found_while_the_wall_clock_is_set(
    stubborn: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    boots = itertools.count(1_700_000_000.0, -60.0)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: next(boots), raising=False)

    assert stubborn.pid in [process.pid for process in descendants()]


def test_grandchildren_are_descendants() -> None:
    script = "import subprocess; subprocess.run(['sleep', '600'])"
    child = subprocess.Popen([sys.executable, "-c", script])

    def grandchildren() -> list[psutil.Process]:
        return [process for process in descendants() if process.ppid() == child.pid]

    until(lambda: [process.name() for process in grandchildren()] == ["sleep"])

    assert end_all(grandchildren, grace=0.0)
    assert child.wait() == 0
    assert child.pid not in [process.pid for process in descendants()]
