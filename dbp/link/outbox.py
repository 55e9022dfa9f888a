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
    """Numbered reports of one attempt, starting at 1."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._last = 0
        self._closed = False
        self._changed = asyncio.Event()

    def close(self) -> None:
        """Drop all reports and every later one: no service will take them."""
        self._closed = True
        self._entries.clear()
        self._notify()

    def add(self, report: pb.AttachRequest, *, droppable: bool) -> None:
        """Number and append the report; it replaces a droppable report before it."""
        if self._closed:
            return
        self._drop_superseded()
        self._last += 1
        report.sequence = self._last
        self._entries[self._last] = _Entry(report, droppable)
        self._notify()

    def acknowledge(self, sequence: int) -> None:
        """Drop every report up to this number."""
        for number in [n for n in self._entries if n <= sequence]:
            del self._entries[number]
        self._notify()

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
