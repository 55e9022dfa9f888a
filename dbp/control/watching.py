"""What a watcher of jobs or logs is told, as values. Who tells it is ``dbp.control.feed``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from dbp.job.state import EventKind, Job, ProgressReport, StreamEndReason


@dataclass(frozen=True)
class Snapshot:
    """A job as it stands. ``resume`` of this and the others: watch after it; 0: from anew."""

    job: Job
    resume: int


@dataclass(frozen=True)
class Change:
    """A durable change: its number, Unix time and kind, and the job after it."""

    sequence: int
    time: float
    kind: EventKind
    job: Job

    @property
    def resume(self) -> int:
        """Where to go on after this change."""
        return self.sequence


@dataclass(frozen=True)
class ProgressItem:
    """The newest progress of a job; ``skipped`` reports since the last one were left out."""

    job_id: str
    progress: ProgressReport
    skipped: int
    resume: int


@dataclass(frozen=True)
class Heartbeat:
    """Nothing happened for some seconds."""

    resume: int


@dataclass(frozen=True)
class End:
    """The explicit end of a stream, and its reason."""

    reason: StreamEndReason
    resume: int = 0


WatchItem: TypeAlias = Snapshot | Change | ProgressItem | Heartbeat | End


@dataclass(frozen=True)
class LogChunk:
    """Whole lines of a log without their ends; ``next_offset``: bytes up to their end."""

    lines: tuple[str, ...]
    next_offset: int


LogItem: TypeAlias = LogChunk | End
