"""Find and end the processes of an attempt: by mark, by descent.

The processes of an attempt carry its folder in their environment, so they are found even after
their parents have ended.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

import psutil

MARK: Final = "DBP_ATTEMPT_FOLDER"
_PAUSE_SECONDS: Final = 0.02

Find: TypeAlias = Callable[[], Iterable[psutil.Process]]


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
    """Return the living descendants of this process.

    psutil's own search compares start times, some of which it computes from the boot time: it
    misses children while the wall clock is being set.
    """
    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # gone meanwhile
            children.setdefault(process.ppid(), []).append(process)
    found, parents = [], [os.getpid()]
    while parents:
        below = children.pop(parents.pop(), [])
        found += below
        parents += [process.pid for process in below]
    return [process for process in found if _lives(process)]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


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
