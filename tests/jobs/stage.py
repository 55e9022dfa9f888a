"""A broadcaster of job events, its announcements and its watchers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dbp.job.state import EventKind, Job, ProgressReport, State
from dbp.jobs.job_table import JobTable
from dbp.jobs.store import Store
from dbp.jobs.watch import EventBroadcaster
from dbp.jobs.watch_items import Change, WatchItem
from dbp.storage.database import Database
from tests.deadline import DEADLINE
from tests.jobs.fakes import FakeClock


class Stage:
    """A broadcaster and its announcements."""

    def __init__(self, path: Path, heartbeat_seconds: float = 60.0) -> None:
        self.database = Database(path)
        self.store = Store(self.database)
        self.events = EventBroadcaster(
            self.store, heartbeat_seconds=heartbeat_seconds, view=lambda job: job
        )
        self.clock = FakeClock()
        self.table = JobTable(self.store, self.events, self.clock)

    async def create(self, name: str) -> Job:
        return await self.table.create(Job(name, {}, "", 1, State.QUEUED, 0.0))

    async def run(self, name: str) -> None:
        await self.create(name)
        await self.table.record(name, EventKind.STARTED)
        await self.table.record(name, EventKind.RUNNING)

    def progress(self, name: str, step: int) -> None:
        report = ProgressReport(step, 100, 1, 0.5, {}, 1.0, None, 0.0)
        self.table.note_progress(name, report)

    def watch(self, name: str | None = None, after: int | None = None) -> Stream:
        return Stream(self.events.watch(name, after))


class Stream:
    """A watcher that takes items when the test says so."""

    def __init__(self, items: AsyncIterator[WatchItem]) -> None:
        self._items = items

    async def next(self) -> WatchItem:
        async with asyncio.timeout(DEADLINE):
            return await anext(self._items)

    async def take(self, count: int) -> list[WatchItem]:
        return [await self.next() for _ in range(count)]

    async def rest(self) -> list[WatchItem]:
        async with asyncio.timeout(DEADLINE):
            return [item async for item in self._items]


def kinds(items: list[WatchItem]) -> list[str]:
    return [
        str(item.kind) if isinstance(item, Change) else type(item).__name__ for item in items
    ]


class Window(Stage):
    """A stage that keeps ten events, in the store and in memory."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(path, heartbeat_seconds=0.02)
        monkeypatch.setattr("dbp.jobs.event_table._PRUNE_EVERY", 10)
        self.store._events_kept = 10
        self.events._recent = deque(maxlen=10)

    async def others(self, count: int) -> None:
        """Change other jobs."""
        first = self.events._newest
        for number in range(first, first + count):
            await self.create(f"other{number}")
