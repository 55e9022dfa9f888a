"""A version store with one running job, whose versions a test publishes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Self

from dbp.job.snapshot import Manifest
from dbp.job.state import Event, EventKind, Job, State, Version
from dbp.jobs.job_table import JobTable
from dbp.jobs.store import Store
from dbp.jobs.watch import EventBroadcaster
from dbp.storage.database import Database
from dbp.storage.state_folder import StateFolder
from dbp.versions.file import Chunks
from dbp.versions.publisher import PublishTerms, VersionPublisher
from dbp.versions.store import Commit, VersionStore
from tests.jobs.fakes import FakeClock, data, manifest


class Shelf:
    """A version store with one running job."""

    def __init__(self, path: Path) -> None:
        self.folder = StateFolder(path)
        self.database = Database(self.folder.database_file)
        self.store = Store(self.database)
        events = EventBroadcaster(self.store, heartbeat_seconds=60.0, view=lambda job: job)
        self.commit: Commit = JobTable(self.store, events, FakeClock()).change_versions
        self.versions = VersionStore(
            self.folder,
            self.store,
            lambda *change: self.commit(*change),  # noqa: PLW0108 (tests replace it)
        )
        self.publisher = VersionPublisher(self.versions, self.store, self._terms, lambda: 9.0)
        self.keep = 3
        self.place = self.folder.parameters_folder("a")

    @classmethod
    async def opened(cls, path: Path) -> Self:
        """Return the shelf of a folder, whose job was made here or before."""
        shelf = cls(path)
        if not await shelf.store.live():
            job = (await shelf.store.create(Job("a", {}, "", 1, State.QUEUED, 0.0))).job
            job = (await shelf.store.append(job, Event(EventKind.STARTED, 0.0))).job
            await shelf.store.append(job, Event(EventKind.RUNNING, 0.0))
        return shelf

    async def publish(
        self,
        step: int,
        *,
        final: bool = False,
        best: bool = False,
        keep: int = 3,
        values: int = 4,
        rollbacks: str = "",
    ) -> Version:
        described = manifest(values)
        if rollbacks:
            described = dataclasses.replace(described, metadata={"dbp.rollbacks": rollbacks})
        chunks = data(values, fill=step + 100 * int(rollbacks or 0))
        return await self.upload(step, described, chunks, final=final, best=best, keep=keep)

    async def upload(
        self,
        step: int,
        described: Manifest,
        chunks: Chunks,
        *,
        final: bool = False,
        best: bool = False,
        keep: int = 3,
    ) -> Version:
        """Publish these bytes as a version of job ``a``."""
        self.keep = keep
        return await self.publisher.publish(
            "a", 1, step=step, manifest=described, chunks=chunks, final=final, best=best
        )

    async def _terms(self, job_id: str, attempt: int) -> PublishTerms:
        job = await self.store.get(job_id)
        return PublishTerms(job.state, not job.state.terminal, self.keep, "feed")

    async def move(self, label: str, version: int, *, keep: int = 3, time: float = 0.0) -> None:
        await self.versions.change(
            "a", lambda index: index.move(label, version, keep=keep, time=time)
        )

    async def pin(self, version: int, *, pinned: bool, keep: int = 3) -> None:
        await self.versions.change(
            "a", lambda index: index.pin(version, pinned=pinned, keep=keep, time=0.0)
        )

    async def kept(self) -> list[int]:
        """Numbers of the versions whose bytes are there, as store and folder agree."""
        numbers = [version.version for version in (await self.store.versions("a")).kept]
        assert {path.name for path in self.place.iterdir()} == {
            f"{number}.safetensors" for number in numbers
        }
        return numbers

    def close(self) -> None:
        self.database.close()
        self.folder.close()
