"""Stopping an attempt ends all of its processes, also without its supervisor."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import psutil
import pytest

from dbp.launch.launcher import Exit
from dbp.launch.process_tree import marked
from tests.deadline import DEADLINE
from tests.launch.attempts import (
    OBEDIENT,
    ended,
    log,
    request,
    running_script,
    start,
    supervisor,
)

pytestmark = pytest.mark.processes

# A rank that ignores requests, with a child that left its session and was orphaned.
STUBBORN = """
import os, signal, subprocess, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
print("ready", flush=True)
time.sleep(600)
"""


LEAVE_A_CHILD = """
import os, time
if os.fork() == 0:
    os.setsid()
    time.sleep(600)
"""


async def nothing_left(folder: Path) -> None:
    async with asyncio.timeout(DEADLINE):
        while marked(folder):
            await asyncio.sleep(0.05)


async def test_a_graceful_stop_reaches_the_ranks(tmp_path: Path) -> None:
    running, folder = await start(tmp_path, OBEDIENT)

    running.request_stop()
    record = await ended(running)

    assert (record.exit_code, record.stopped) == (75, False)
    assert "asked to stop" in log(folder)


async def test_force_leaves_nothing_of_a_stubborn_tree(tmp_path: Path) -> None:
    running, folder = await start(tmp_path, STUBBORN, processes=2)
    assert len(marked(folder)) == 2

    await running.kill()
    record = await ended(running)

    assert record.stopped
    assert record.signal == signal.SIGKILL
    assert marked(folder) == []


async def test_strays_of_a_run_that_ended_are_ended_too(tmp_path: Path) -> None:
    running = await running_script(LEAVE_A_CHILD).start(request(tmp_path))
    record = await ended(running)

    assert record.exit_code == 0
    assert marked(request(tmp_path).folder) == []


@pytest.mark.parametrize("script", [OBEDIENT, STUBBORN])
async def test_a_killed_supervisor_takes_all_with_it(tmp_path: Path, script: str) -> None:
    running, folder = await start(tmp_path, script, processes=2 if script is STUBBORN else 1)
    scratch = json.loads((folder / "supervisor.json").read_text())["scratch"]

    supervisor(folder).kill()
    record = await ended(running)

    assert record == Exit(lost=True)
    await nothing_left(folder)
    assert not any(Path(path).exists() for path in scratch)


async def test_a_killed_supervisor_takes_the_ranks_with_it_while_no_service_looks(
    tmp_path: Path,
) -> None:
    running, folder = await start(tmp_path, OBEDIENT)

    supervisor(folder).kill()

    await nothing_left(folder)
    assert (await ended(running)).lost


async def test_a_stray_without_mark_and_parent_is_ended(tmp_path: Path) -> None:
    script = LEAVE_A_CHILD.replace(
        "time.sleep(600)",
        "os.fork() and os._exit(0); print(os.getpid(), flush=True); "
        "os.execve('/bin/sleep', ['sleep', '600'], {})",
    ) + "time.sleep(0.5)"  # fmt: skip

    record = await ended(await running_script(script).start(request(tmp_path)))

    (stray,) = record.log_tail
    assert not psutil.pid_exists(int(stray))


async def test_a_frozen_supervisor_does_not_prevent_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.launch.supervised_run.KILL_SECONDS", 0.5)
    running, folder = await start(tmp_path, OBEDIENT)
    supervisor(folder).suspend()

    await running.kill()

    assert (await ended(running)).lost
    await nothing_left(folder)
