"""The heartbeats of one attempt on one host: a file in shared memory, one cache line a process.

The supervisor creates the file; each process maps it and writes its own line with plain stores.
mpirun and the link do not report: who starts them writes their process ids.
Readers need no lock: every number is an aligned 64-bit integer. Times are those of
the monotonic clock, which all processes of a host share and which no clock change moves.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from dbp.heartbeat.phase import NO_HEARTBEAT, Heartbeat, Phase
from dbp.process_stat import process_stat

VARIABLE: Final = "DBP_HEARTBEATS"  # path of the file, in the environment of the processes
LINE_BYTES: Final = 64
_MAGIC: Final = 0x3150_4244  # "DBP1"
_PID, _START, _COUNT, _STEP, _PHASE, _TIME, _COLLECTIVES, _MEDIAN = range(8)
_LINE: Final = struct.Struct("=8q")

# Lines by process: the file's header, then the processes that are not ranks, then the ranks.
SUPERVISOR: Final = 1
COMMAND: Final = 2  # mpirun, or the only rank
LINK: Final = 3
FIRST_RANK: Final = 4

_PHASES: Final = {phase.value: phase for phase in Phase}
_STEPS: Final = 31  # of which the median is taken
_MEDIAN_NANOSECONDS: Final = 500_000_000  # how often it is computed


@dataclass(frozen=True)
class Beat:
    """The newest heartbeat of one process.

    Attributes:
        pid: Process id; 0 while the process has not reported.
        start: Its start in clock ticks since boot, which with the pid identifies it; 0 unknown.
        count: Number of reports so far.
        step: Step under way.
        phase: Phase under way.
        time: Monotonic seconds of the last report.
        collectives: Number of calls so far that wait for other ranks.
        median_step_seconds: Median duration of the newest steps; 0 before the second step.
    """

    pid: int = 0
    start: int = 0
    count: int = 0
    step: int = 0
    phase: Phase = Phase.STARTING
    time: float = 0.0
    collectives: int = 0
    median_step_seconds: float = 0.0


def create(path: Path, ranks: int) -> None:
    """Create the file for this number of ranks, mode 0600, with its memory allocated.

    Raises OSError without space: a store to memory that is missing would kill the process.
    """
    size = (FIRST_RANK + ranks) * LINE_BYTES
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    file = os.open(path, flags, 0o600)
    try:
        content = _LINE.pack(_MAGIC, ranks, *[0] * 6).ljust(size, b"\0")
        if os.write(file, content) != size:
            raise OSError(f"{path}: no space for {size} bytes")
    finally:
        os.close(file)


def read(path: Path) -> list[Beat]:
    """Return the heartbeats by line; empty if the file is missing or is none."""
    try:
        content = path.read_bytes()
    except OSError:
        return []
    if len(content) % LINE_BYTES or content[:8] != _MAGIC.to_bytes(8, "little"):
        return []
    return [Beat(), *(_beat(fields) for fields in _LINE.iter_unpack(content[LINE_BYTES:]))]


def _beat(fields: tuple[int, ...]) -> Beat:
    return Beat(
        pid=fields[_PID],
        start=fields[_START],
        count=fields[_COUNT],
        step=fields[_STEP],
        phase=_PHASES.get(fields[_PHASE], Phase.STARTING),
        time=fields[_TIME] / 1e9,
        collectives=fields[_COLLECTIVES],
        median_step_seconds=fields[_MEDIAN] / 1e9,
    )


@final
class SlotHeartbeat(Heartbeat):
    """Writes the heartbeats of a process to its line of the file."""

    def __init__(self, path: Path, line: int, *, pid: int | None = None) -> None:
        """Map the file, and report ``pid`` (default: this process) as STARTING.

        Raises OSError without such a file, IndexError if it has no such line.
        """
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            memory = mmap.mmap(file, 0)
        finally:
            os.close(file)
        if not 0 < line < len(memory) // LINE_BYTES:
            raise IndexError(f"{path} has no line {line}")
        self._line = memoryview(memory)[line * LINE_BYTES :][:LINE_BYTES].cast("q")
        self._count = self._collectives = 0
        self._begun = 0  # when the present step began
        self._durations: deque[int] = deque(maxlen=_STEPS)
        self._median_due = 0
        pid = pid or os.getpid()
        known = process_stat(pid)
        self._line[_START] = known.start_ticks if known else 0
        self._line[_PID] = pid
        self.enter(Phase.STARTING)

    def enter(self, phase: Phase) -> None:
        line = self._line
        self._count += 1
        line[_PHASE] = phase
        line[_TIME] = time.monotonic_ns()
        line[_COUNT] = self._count

    def begin_step(self, step: int) -> None:
        self._line[_STEP] = step
        self.enter(Phase.COMPUTING)
        now = self._line[_TIME]
        if self._begun:
            self._durations.append(now - self._begun)
            if now >= self._median_due or len(self._durations) < _STEPS:
                self._median_due = now + _MEDIAN_NANOSECONDS
                ordered = sorted(self._durations)
                self._line[_MEDIAN] = ordered[len(ordered) // 2]
        self._begun = now

    def count_collective(self) -> None:
        self._collectives += 1
        self._line[_COLLECTIVES] = self._collectives


def make_heartbeat(
    environ: Mapping[str, str], line: int, *, pid: int | None = None
) -> Heartbeat:
    """Return the heartbeat of ``pid`` (default: this process), which has reported STARTING.

    Return one that does nothing if there is no file.
    """
    if VARIABLE not in environ:
        return NO_HEARTBEAT
    try:
        return SlotHeartbeat(Path(environ[VARIABLE]), line, pid=pid)
    except (FileNotFoundError, IndexError):  # of another host
        return NO_HEARTBEAT
