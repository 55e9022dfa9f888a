"""Wake readers that wait for a job's next version."""

from __future__ import annotations

import asyncio
from typing import final


@final
class VersionChanges:
    """One event per job, for any number of waiting readers."""

    def __init__(self) -> None:
        self._changed: dict[str, asyncio.Event] = {}
        self.closed = False

    def wake(self, job_id: str) -> None:
        """Wake the readers of a job: its versions changed, or no more will come."""
        event = self._changed.pop(job_id, None)
        if event is not None:
            event.set()

    def close(self) -> None:
        """Wake all readers; nothing more will change."""
        self.closed = True
        for job_id in list(self._changed):
            self.wake(job_id)

    def next_change(self, job_id: str) -> asyncio.Event:
        """Return an event that the next change sets."""
        return self._changed.setdefault(job_id, asyncio.Event())
