"""Find and end the processes of an attempt: by pid and start time, by mark, by descent.

The kernel reuses pids; pid and start time together identify a process. The processes of an
attempt carry its folder in their environment, so they are found even after their parents have
ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

import psutil

MARK: Final = "DBP_ATTEMPT_FOLDER"
# psutil computes start times from the boot time, which moves when the wall clock is set.
_SAME_START_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.02

Find: TypeAlias = Callable[[], Iterable[psutil.Process]]


def identified(pid: int, create_time: float) -> psutil.Process | None:
    """Return the living process with this pid and Unix start time; None if there is none."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - create_time) < _SAME_START_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def marked(folder: Path) -> list[psutil.Process]:
    """Return living processes of this user with the attempt's mark, without this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get(MARK) == str(folder)
                and process.pid != os.getpid()
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or another user's
    return found


def descendants() -> list[psutil.Process]:
    """Return the living descendants of this process."""
    living = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
        except psutil.Error:
            continue
    return living


def end_all(
    find: Find, *, grace: float, limit: float = 5.0, between: Callable[[], None] = lambda: None
) -> bool:
    """Send SIGTERM, after ``grace`` seconds SIGKILL; return True if no process is left.

    Args:
        find: called repeatedly, since processes may start others meanwhile.
        between: called while waiting, so that a parent can reap.
    """
    begin = time.monotonic()
    asked: set[psutil.Process] = set()
    while True:
        between()
        found = list(find())
        elapsed = time.monotonic() - begin
        if not found or elapsed > grace + limit:
            return not found
        for process in found:
            try:
                if elapsed >= grace:
                    process.kill()
                elif process not in asked:
                    process.terminate()
                    asked.add(process)
            except psutil.Error:
                continue  # gone meanwhile
        time.sleep(_PAUSE_SECONDS)
