"""A version store with one running job, whose versions a test publishes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dbp.job.state import Event, EventKind, Job, State, Version
from dbp.jobs.store import Store
from dbp.storage.state_folder import StateFolder
from dbp.versions.store import VersionStore, VersionUpload
from tests.jobs.fakes import data, manifest


class Shelf:
    """A version store with one running job."""

    def __init__(self, path: Path) -> None:
        self.folder = StateFolder(path)
        self.store = Store(self.folder.path / "dbp.sqlite")
        self.versions = VersionStore(self.folder, self.store)
        self.place = self.folder.parameters_folder("a")
        if not self.store.live():
            job = self.store.create(Job("a", {}, "", 1, State.QUEUED, 0.0)).job
            job = self.store.append(job, Event(EventKind.STARTED, 0.0)).job
            self.store.append(job, Event(EventKind.RUNNING, 0.0))

    def record(self, version: Version, dropped: Sequence[int], label: str = "") -> None:
        event = Event(EventKind.PARAMETERS_PUBLISHED, 0.0, {"latest_parameters": version})
        job = self.store.get("a")
        self.store.append(job, event, version=version, dropped=dropped, label=label)

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
        upload = VersionUpload("a", 1, step, described, final, keep, lambda: 9.0, "feed", best)
        return await self.versions.publish(
            upload,
            data(values, fill=step + 100 * int(rollbacks or 0)),
            record=partial(self.record, label="best" if best else ""),
        )

    def kept(self) -> list[int]:
        """Numbers of the versions whose bytes are there, as store and folder agree."""
        numbers = [version.version for version in self.store.versions("a").kept]
        assert {path.name for path in self.place.iterdir()} == {
            f"{number}.safetensors" for number in numbers
        }
        return numbers

    def close(self) -> None:
        self.store.close()
        self.folder.close()
