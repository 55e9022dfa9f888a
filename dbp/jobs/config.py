"""Limits, timeouts and clock of a job manager."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Protocol, final

from dbp.job.state import State
from dbp.launch.process_identity import boot_id


@dataclass(frozen=True)
class ManagerConfig:
    """Limits and timeouts; all times in seconds.

    Args:
        max_queued: jobs that may wait for slots.
        grace_seconds: from a cancel request until the processes are killed.
        lost_contact_seconds: how long a run started by hand may be silent.
        heartbeat_seconds: interval of heartbeats on an idle stream.
        pause_grace_seconds: from a request to pause until the processes are killed.
        keep_ended_seconds: from the end of a job until it is deleted; None: never.
        max_disk_bytes: disk space of all jobs, above which ended ones are deleted; None: any.
        max_jobs_per_owner: jobs of one owner that may wait or run; None: any.
        max_disk_per_owner_bytes: disk space of the jobs of one owner, above which he submits no
            more; None: any.
    """

    max_queued: int = 10_000
    grace_seconds: float = 10.0
    lost_contact_seconds: float = 60.0
    heartbeat_seconds: float = 5.0
    pause_grace_seconds: float = 60.0
    keep_ended_seconds: float | None = None
    max_disk_bytes: int | None = None
    max_jobs_per_owner: int | None = None
    max_disk_per_owner_bytes: int | None = None

    def grace_of(self, state: State) -> float:
        """Return the grace period of a run that is stopping."""
        return self.pause_grace_seconds if state is State.PAUSING else self.grace_seconds


class Clock(Protocol):
    """Time as the control package uses it."""

    def time(self) -> float:
        """Return Unix seconds, for records."""
        ...

    def monotonic(self) -> float:
        """Return seconds since any point; steps of the wall clock have no effect."""
        ...

    def elapsed(self) -> tuple[str, float]:
        """Return the boot id and the seconds since that start of the machine.

        Suspended time counts, where the system has a clock for it; the id is "" if unknown.
        """
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; steps of the wall clock have no effect."""
        ...


@final
class SystemClock:
    """The clock of the machine: wall time, and the event loop's monotonic sleep."""

    def time(self) -> float:
        """Return Unix seconds, for records."""
        return time.time()

    def monotonic(self) -> float:
        """Return the seconds of the monotonic clock."""
        return time.monotonic()

    def elapsed(self) -> tuple[str, float]:
        """Return boot id and seconds of CLOCK_BOOTTIME, else of the monotonic clock."""
        seconds = (
            time.clock_gettime(time.CLOCK_BOOTTIME)
            if sys.platform == "linux"
            else time.monotonic()
        )
        return boot_id(), seconds

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop's monotonic clock."""
        await asyncio.sleep(seconds)
