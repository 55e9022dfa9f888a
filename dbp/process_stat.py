"""Read the state, CPU time and start of a process from /proc (Linux only)."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")


@dataclass(frozen=True)
class ProcessStat:
    """Facts of /proc/PID/stat (see proc(5)).

    Attributes:
        state: Letter of the state: R, S, D, T (stopped), t (traced), Z (zombie), ...
        parent: Process id of the parent.
        cpu_ticks: CPU time of all its threads, in clock ticks.
        faults: Page faults that read from a disk.
        start_ticks: Start, in clock ticks since boot.
    """

    state: str
    parent: int
    cpu_ticks: int
    faults: int
    start_ticks: int


def process_stat(pid: int, proc: Path = PROC) -> ProcessStat | None:
    """Return the facts of a process; None if it is gone, or without /proc."""
    try:
        text = (proc / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name in parentheses may contain spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    return ProcessStat(
        state=fields[0],
        parent=int(fields[1]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        faults=int(fields[9]),
        start_ticks=int(fields[19]),
    )


def moved_bytes(pid: int, proc: Path = PROC) -> int:
    """Return the bytes that a process has read and written so far; 0 if unknown."""
    total = 0
    with contextlib.suppress(OSError):
        text = (proc / str(pid) / "io").read_text()
        total = sum(map(int, re.findall(r"(?:char|_bytes): (\d+)", text)))
    return total


def waits_in(pid: int, proc: Path = PROC) -> str:
    """Return where a process waits in the kernel ("pipe_read, system call 0"), as readable."""
    found = []
    for name, text in (("wchan", "in {}"), ("syscall", "system call {}")):
        with contextlib.suppress(OSError):
            content = (proc / str(pid) / name).read_text().split()
            if content and content[0] not in ("0", "running"):
                found.append(text.format(content[0]))
    return ", ".join(found)
