"""The database alone: nothing else of a service syncs its folder."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import final

from dbp.errors import AlreadyExists
from dbp.job.state import Job, State
from dbp.jobs.store import Store
from dbp.storage.database import Database
from tests.durability.act import Acknowledger, Act


@final
class Commit(Act):
    """A database is made, and three jobs are stored in it."""

    name = "commit to a database"

    def run(self, folder: Path, acknowledge: Acknowledger, done: int = 0) -> None:
        async def store(store: Store) -> str:
            for name in ("a", "b", "c")[done:]:
                try:
                    await store.create(Job(name, {"name": name}, "", 1, State.QUEUED, 0.0))
                except AlreadyExists:
                    continue  # of a request that was cut
                acknowledge(f"job {name}")
            return ""

        _with_database(folder, store)

    def recover(self, folder: Path) -> str:
        async def read(store: Store) -> str:
            found = [f"job {job.id}" for _, job in await store.page(limit=9)]
            assert len(await store.events_after(0)) == len(found)
            return " ".join(reversed(found))

        return _with_database(folder, read)


def _with_database(folder: Path, work: Callable[[Store], Awaitable[str]]) -> str:
    async def run() -> str:
        database = Database(folder / "dbp.sqlite")
        try:
            return await work(Store(database))
        finally:
            database.close()

    return asyncio.run(run())
