"""Wakes whoever waits for a job's next version. It knows no versions, and keeps no queue."""

from __future__ import annotations

import asyncio
from typing import final


@final
class VersionFeed:
    """One event a job, for any number of waiters; a change wakes them all, once."""

    def __init__(self) -> None:
        self._changed: dict[str, asyncio.Event] = {}
        self.closed = False

    def wake(self, job_id: str) -> None:
        """Something of the job's versions has changed, or no more will come."""
        event = self._changed.pop(job_id, None)
        if event is not None:
            event.set()

    def close(self) -> None:
        """Wake everybody: nothing more will be told."""
        self.closed = True
        for job_id in list(self._changed):
            self.wake(job_id)

    def next_change(self, job_id: str) -> asyncio.Event:
        """Set at the next change from now on."""
        return self._changed.setdefault(job_id, asyncio.Event())
