"""Read the state, CPU time, start and signals of a process from /proc (Linux only)."""

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


def catches(pid: int, number: int, proc: Path = PROC) -> bool:
    """Return whether a process has a handler for a signal; assumed without /proc."""
    return _in_mask(pid, number, proc, "SigCgt:", missing=not (proc / "self").exists())


def is_pending(pid: int, number: int, proc: Path = PROC) -> bool:
    """Return whether a process that blocks a signal has got it; False without /proc."""
    return _in_mask(pid, number, proc, "ShdPnd:", missing=False)


def children(pid: int, proc: Path = PROC) -> list[int]:
    """Return the children of a process with one thread; empty if unknown."""
    with contextlib.suppress(OSError):
        return list(map(int, (proc / f"{pid}/task/{pid}/children").read_text().split()))
    return []


def _in_mask(pid: int, number: int, proc: Path, field: str, *, missing: bool) -> bool:
    with contextlib.suppress(OSError):
        lines = (proc / str(pid) / "status").read_text(errors="replace").splitlines()
        masks = (int(line.split()[1], 16) for line in lines if line.startswith(field))
        return any(mask >> (number - 1) & 1 for mask in masks)
    return missing


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
