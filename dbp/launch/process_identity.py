"""Identity of a process that no clock changes: pid, start and boot.

The kernel reuses pids. A start time in Unix seconds distinguishes two processes with one pid,
but Linux computes it from the boot time, which moves whenever the wall clock is set. The ticks
that the kernel has counted since the boot do not.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, final

import psutil

from dbp.json_value import JsonObject
from dbp.process_stat import PROC, process_stat

# Only Linux has /proc and process descriptors; elsewhere psutil identifies processes.
_LINUX: Final = os.uname().sysname == "Linux"
_ENDED: Final = ("Z", "X", psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


@final
@dataclass(frozen=True)
class ProcessIdentity:
    """A process, never an earlier or later one with its pid.

    Args:
        start: Linux: ticks since the boot, as decimal digits; elsewhere Unix seconds, which
            those systems record when the process starts.
        boot: Linux: id of the boot; elsewhere empty.
    """

    pid: int
    start: str
    boot: str

    @classmethod
    def of(cls, pid: int, proc: Path = PROC) -> Self | None:
        """Return the identity of the process that has this pid now; None without one.

        A process that has ended keeps its pid until its parent has reaped it. ``proc``: where
        Linux shows processes; tests pass other folders.
        """
        seen = _look_at(pid, proc)
        return None if seen is None else cls(pid, seen[1], boot_id(proc))

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> Self | None:
        """Return the identity that ``to_json`` recorded; None if some of it is missing."""
        pid, start, boot = (fields.get(name) for name in ("pid", "start", "boot"))
        if isinstance(pid, int) and isinstance(start, str) and isinstance(boot, str):
            return cls(pid, start, boot)
        return None

    def to_json(self) -> JsonObject:
        """Return the fields ``pid``, ``start`` and ``boot``."""
        return {"pid": self.pid, "start": self.start, "boot": self.boot}

    def exists(self, proc: Path = PROC) -> bool:
        """Return whether this process lives, or has ended and is not reaped yet."""
        return self == ProcessIdentity.of(self.pid, proc)

    def lives(self, proc: Path = PROC) -> bool:
        """Return whether this process has not ended."""
        seen = _look_at(self.pid, proc)
        return seen is not None and seen[0] not in _ENDED and self.exists(proc)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process; do nothing if it no longer exists."""
        # An open descriptor keeps its process: the pid is compared afterwards.
        descriptor = _open(self.pid)
        try:
            if self.exists():
                _send(self.pid, descriptor, number)
        except ProcessLookupError:
            return  # reaped meanwhile
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _look_at(pid: int, proc: Path) -> tuple[str, str] | None:
    """Return state and start of a process; None without one."""
    if _LINUX:
        stat = process_stat(pid, proc)
        return None if stat is None else (stat.state, str(stat.start_ticks))
    try:
        process = psutil.Process(pid)
        return process.status(), repr(process.create_time())
    except psutil.Error:
        return None


def boot_id(proc: Path = PROC) -> str:
    """Return an id that is another one after each start of the machine; "" if unknown."""
    with contextlib.suppress(OSError):
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    return ""


def _open(pid: int) -> int | None:
    """Return a descriptor of the process with this pid; None where the system has none."""
    if _LINUX:
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return None


def _send(pid: int, descriptor: int | None, number: signal.Signals) -> None:
    if descriptor is not None:
        signal.pidfd_send_signal(descriptor, number)
    else:
        os.kill(pid, number)
