from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dbp.launch.process_tree import MARK, end_all, identified, marked

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


def test_a_process_is_its_pid_and_its_start(stubborn: subprocess.Popen[str]) -> None:
    start = psutil.Process(stubborn.pid).create_time()

    assert identified(stubborn.pid, start) == psutil.Process(stubborn.pid)
    assert identified(stubborn.pid, start - 100) is None, "the pid was another's before"
    stubborn.kill()
    while psutil.Process(stubborn.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert identified(stubborn.pid, start) is None, "dead, though not yet reaped"
    stubborn.wait()
    assert identified(stubborn.pid, start) is None


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
