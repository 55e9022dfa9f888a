"""`python -m tests.busy`: its busy loops end with it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.busy import CORES, LOOPS
from tests.deadline import DEADLINE, until

ROOT = Path(__file__).resolve().parent.parent
LOOK = """
import json, os, psutil
parent = psutil.Process(os.getppid())
print(json.dumps([len(parent.children()) - 1, len(os.sched_getaffinity(0))]))
raise SystemExit(3)
"""


def busy(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.busy", *command], cwd=ROOT, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_the_command_runs_beside_the_loops_on_few_cores_and_gives_the_exit_code() -> None:
    process = busy(sys.executable, "-c", LOOK)

    output, _ = process.communicate(timeout=DEADLINE)

    assert output == f"[{LOOPS}, {min(CORES, len(os.sched_getaffinity(0)))}]\n"
    assert process.returncode == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_loops_end_when_the_runner_is_killed(number: signal.Signals) -> None:
    process = busy("sh", "-c", "echo up; exec sleep 600")
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    children = psutil.Process(process.pid).children()
    loops = [child for child in children if "tests.busy" in child.cmdline()]
    assert len(loops) == LOOPS

    process.send_signal(number)

    process.wait(DEADLINE)
    until(lambda: not any(loop.is_running() for loop in loops))
    for child in children:
        if child.is_running():  # the command of a runner that was killed outright
            child.kill()
    process.stdout.close()
