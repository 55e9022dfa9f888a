"""The health of an attempt's processes on this host: heartbeats, /proc, stacks on request."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from dbp.heartbeat import slots, stacks
from dbp.heartbeat.slots import Beat
from dbp.launch.launcher import ProcessHealth, Role
from dbp.process_stat import moved_bytes, process_stat, waits_in

STACK_SECONDS: Final = 2.0  # that ranks have to write their stacks
STACK_BYTES: Final = 16 << 10  # of one answer that are read
_FILE_BYTES: Final = 256 << 10  # size from which on a rank is not asked again
_PAUSE_SECONDS: Final = 0.05
GONE: Final = "X"

_ROLES: Final = {
    slots.SUPERVISOR: Role.SUPERVISOR,
    slots.COMMAND: Role.COMMAND,
    slots.LINK: Role.LINK,
}
_STATES: Final = {
    psutil.STATUS_STOPPED: "T",
    psutil.STATUS_TRACING_STOP: "t",
    psutil.STATUS_ZOMBIE: "Z",
    psutil.STATUS_DISK_SLEEP: "D",
    psutil.STATUS_RUNNING: "R",
}
_STATE_TEXTS: Final = {
    "T": "stopped (state T)",
    "t": "stopped by a debugger (state t)",
    "Z": "a zombie (state Z)",
    "D": "waiting for a device or a file system (state D)",
    "S": "sleeping (state S)",
    "R": "running (state R)",
}


def health(heartbeats: Path) -> list[ProcessHealth]:
    """Return the health of the processes that report to this file; empty without it."""
    beats = slots.read(heartbeats)
    if not beats:
        return []
    now, host = time.monotonic(), socket.gethostname()
    found = [_health(role, host, None, beats[line], now) for line, role in _ROLES.items()]
    found += [_health(Role.COMMAND, host, None, beat, now) for beat in _between(beats, now)]
    ranks = enumerate(beats[slots.FIRST_RANK :])
    return found + [_health(Role.RANK, host, rank, beat, now) for rank, beat in ranks]


def without_heartbeat(pid: int) -> ProcessHealth:
    """Return the health of a supervisor whose heartbeats are not there."""
    return _health(Role.SUPERVISOR, socket.gethostname(), None, Beat(pid), time.monotonic())


def _between(beats: Sequence[Beat], now: float) -> list[Beat]:
    """Return the processes between mpirun and its ranks (MPICH has one), as heartbeats."""
    command, supervisor = beats[slots.COMMAND].pid, beats[slots.SUPERVISOR].pid
    found: dict[int, Beat] = {}
    for rank in beats[slots.FIRST_RANK :]:
        stat = process_stat(rank.pid) if rank.pid not in (0, command) else None
        while stat is not None and stat.parent not in (0, 1, command, supervisor, *found):
            pid = stat.parent
            stat = process_stat(pid)
            if stat is not None:
                found[pid] = Beat(pid, stat.start_ticks, time=now)
    return list(found.values())


def _health(role: Role, host: str, rank: int | None, beat: Beat, now: float) -> ProcessHealth:
    if not beat.pid:
        return ProcessHealth(role, host, rank)
    state, activity, moved = _observed(beat)
    age = max(0.0, now - beat.time)
    return ProcessHealth(role, host, rank, beat, age, state, activity, moved)


def _observed(beat: Beat) -> tuple[str, int, int]:
    """Return state, activity and moved bytes of the process of a heartbeat."""
    stat = process_stat(beat.pid)
    if stat is not None:
        if beat.start not in (0, stat.start_ticks):
            return GONE, 0, 0
        moved = stat.faults + moved_bytes(beat.pid)
        return stat.state, stat.cpu_ticks + moved, moved
    try:  # without /proc, or gone
        process = psutil.Process(beat.pid)
        times = process.cpu_times()
        ticks = int(100 * (times.user + times.system))
        return _STATES.get(process.status(), "S"), ticks, ticks
    except psutil.NoSuchProcess:
        return GONE, 0, 0
    except psutil.Error:
        return "", 0, 0


def explain(folder: Path, processes: Sequence[ProcessHealth]) -> dict[int, str]:
    """Return for each of these ranks its Python stacks, or where it waits in the kernel.

    ``folder`` is that of the attempt.
    """
    asked = {
        process.rank: stacks.stacks_file(folder, process.rank)
        for process in processes
        if process.rank is not None and _runs(process)
    }
    before = {rank: _size(path) for rank, path in asked.items()}
    for process in processes:
        if process.rank in asked and before[process.rank] < _FILE_BYTES:
            with contextlib.suppress(OSError):
                os.kill(process.beat.pid, stacks.SIGNAL)
    _await_growth(asked, before)
    found = {}
    for process in processes:
        if process.rank is not None:
            path = asked.get(process.rank)
            stack = _read_from(path, before[process.rank]) if path else ""
            found[process.rank] = stack or _in_kernel(process)
    return found


def _runs(process: ProcessHealth) -> bool:
    """Whether the process can run code when a signal comes."""
    return bool(process.beat.pid) and process.state in ("R", "S", "")


def _await_growth(files: Mapping[int, Path], before: Mapping[int, int]) -> None:
    """Wait until all files have grown and grow no more, for a limited time."""
    deadline = time.monotonic() + STACK_SECONDS
    last = before
    while time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
        sizes = {rank: _size(path) for rank, path in files.items()}
        if sizes == last and all(sizes[rank] > before[rank] for rank in files):
            return
        last = sizes


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read_from(path: Path, offset: int) -> str:
    """Return the text after the offset; "" if there is none."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(offset)
        return file.read(STACK_BYTES).decode(errors="replace").strip()
    return ""


def _in_kernel(process: ProcessHealth) -> str:
    if not process.beat.pid:
        return "the process has not reported yet"
    if process.state == GONE:
        return f"process {process.beat.pid} has ended"
    name = _STATE_TEXTS.get(process.state, f"in state {process.state or 'unknown'}")
    place = waits_in(process.beat.pid)
    return f"process {process.beat.pid} is {name}" + (f", {place}" if place else "")
