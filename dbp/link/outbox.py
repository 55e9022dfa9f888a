"""Queue of reports until the service acknowledges them. No network code.

All reports stay until they are acknowledged, and are sent again after a broken stream. Where
too many wait, a report takes the steps of the one before it, which is dropped: its figures then
cover both. The service applies each sequence number once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, final

from dbp.rpc.job_convert import window_from_proto, window_to_proto
from dbp.v1 import worker_service_pb2 as pb

MAX_KEPT: Final = 1000
# Progress reports beyond these are merged: those of a minute at ten a second.
MAX_PROGRESS: Final = 600


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
        """Append the report; it replaces droppable reports before it that cover no step."""
        if self._closed:
            return
        self._drop_superseded()
        self._entries[report.sequence] = _Entry(report, droppable)
        if droppable:
            self._merge()
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
        for number, entry in list(self._entries.items()):
            if entry.droppable and not entry.report.progress.HasField("window"):
                del self._entries[number]
        kept = [number for number, entry in self._entries.items() if not entry.droppable]
        if len(kept) > MAX_KEPT:
            self._drop(kept[0])

    def _drop(self, number: int) -> None:
        """Drop a report; the next one takes its steps, if they follow."""
        numbers = list(self._entries)
        later = numbers[numbers.index(number) + 1 :][:1]
        older = self._entries.pop(number)
        if later and (merged := _merged(older, self._entries[later[0]])) is not None:
            self._entries[later[0]] = merged

    def _merge(self) -> None:
        """Merge progress reports in pairs if there are too many."""
        numbers = [number for number, entry in self._entries.items() if entry.droppable]
        if len(numbers) <= MAX_PROGRESS:
            return
        entries = list(self._entries.items())
        at = 0
        while at + 1 < len(entries):
            (number, older), (later, newer) = entries[at : at + 2]
            merged = _merged(older, newer) if older.droppable else None
            if merged is not None:
                del self._entries[number]
                self._entries[later] = merged
            at += 1 if merged is None else 2
        if len(self._entries) == len(entries):  # roll-backs are between all of them
            self._drop(numbers[0])

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _merged(older: _Entry, newer: _Entry) -> _Entry | None:
    """Return the newer report with the steps of both; None unless both have steps, and those of
    the newer one follow.
    """
    if not all(entry.report.progress.HasField("window") for entry in (older, newer)):
        return None
    before = window_from_proto(older.report.progress.window)
    after = window_from_proto(newer.report.progress.window)
    if not before.precedes(after, older.report.progress.step):
        return None
    report = pb.AttachRequest()
    report.CopyFrom(newer.report)
    report.progress.window.CopyFrom(window_to_proto(before.joined(after)))
    return _Entry(report, newer.droppable)
