"""Items of the streams that watch jobs and logs. ``dbp.jobs.watch`` sends them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from dbp.job.state import EventKind, Job, LabelMove, ProgressReport, StreamEndReason


@dataclass(frozen=True)
class JobStatus:
    """A job as it is shown to a watcher.

    ``resume``, here and in the others: token to continue after this item; 0 starts over.
    """

    job: Job
    resume: int


@dataclass(frozen=True)
class Change:
    """A durable change: its number, Unix time and kind, and the job after it.

    ``label`` and ``version`` as in ``Event``.
    """

    sequence: int
    time: float
    kind: EventKind
    job: Job
    label: LabelMove | None = None
    version: int = 0

    @property
    def resume(self) -> int:
        """Token to continue after this change."""
        return self.sequence


@dataclass(frozen=True)
class ProgressItem:
    """The newest progress of a job; ``skipped`` earlier reports were not sent."""

    job_id: str
    progress: ProgressReport
    skipped: int
    resume: int


@dataclass(frozen=True)
class Heartbeat:
    """Sent when nothing happened for some seconds."""

    resume: int


@dataclass(frozen=True)
class End:
    """The explicit end of a stream, and its reason."""

    reason: StreamEndReason
    resume: int = 0


WatchItem: TypeAlias = JobStatus | Change | ProgressItem | Heartbeat | End


@dataclass(frozen=True)
class LogChunk:
    """Whole lines of a log without their line ends; ``next_offset``: the offset after them."""

    lines: tuple[str, ...]
    next_offset: int


LogItem: TypeAlias = LogChunk | Heartbeat | End
