"""Queue of reports until the service acknowledges them. No network code.

Progress reports are coalesced to the newest one. Other reports stay until they are acknowledged
and are sent again after a broken stream. The service applies each sequence number once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, final

from dbp.v1 import worker_service_pb2 as pb

MAX_KEPT: Final = 1000


@dataclass(frozen=True)
class _Entry:
    report: pb.AttachRequest
    droppable: bool


@final
class Outbox:
    """Reports of one attempt, by their numbers, which rise."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._closed = False
        self._changed = asyncio.Event()

    def close(self) -> None:
        """Drop all reports and every later one: no service will take them."""
        self._closed = True
        self._entries.clear()
        self._notify()

    def add(self, report: pb.AttachRequest, *, droppable: bool) -> None:
        """Append the report; it replaces a droppable report before it."""
        if self._closed:
            return
        self._drop_superseded()
        self._entries[report.sequence] = _Entry(report, droppable)
        self._notify()

    def acknowledge(self, sequence: int) -> bool:
        """Drop every report up to this number; return whether one was not droppable."""
        stored = [self._entries.pop(n) for n in list(self._entries) if n <= sequence]
        self._notify()
        return not all(entry.droppable for entry in stored)

    async def next(self, after: int, timeout: float) -> pb.AttachRequest | None:
        """Return the first report after ``after``, or None after ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while (report := self._first(after)) is None:
                    await self._changed.wait()
        except TimeoutError:
            return None
        return report

    async def drained(self) -> None:
        """Return when every report is acknowledged."""
        while self._entries:
            await self._changed.wait()

    def _first(self, after: int) -> pb.AttachRequest | None:
        return next((e.report for n, e in self._entries.items() if n > after), None)

    def _drop_superseded(self) -> None:
        droppable = [n for n, entry in self._entries.items() if entry.droppable]
        for number in droppable:
            del self._entries[number]
        if len(self._entries) > MAX_KEPT:
            del self._entries[next(iter(self._entries))]

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
