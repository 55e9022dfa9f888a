"""Wake readers that wait for a job's next version."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import final


@final
class VersionChanges:
    """One event for each waiting reader; keeps nothing of jobs without readers."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.closed = False

    def wake(self, job_id: str) -> None:
        """Wake the readers of a job: its versions changed, or no more will come."""
        for event in self._waiting.get(job_id, ()):
            event.set()

    def close(self) -> None:
        """Wake all readers; nothing more will change."""
        self.closed = True
        for job_id in self._waiting:
            self.wake(job_id)

    @contextlib.contextmanager
    def waiting(self, job_id: str) -> Iterator[asyncio.Event]:
        """Yield an event that every change sets; clear it before looking for one."""
        event = asyncio.Event()
        self._waiting.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]
