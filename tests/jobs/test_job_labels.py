"""Labels of jobs in the store: searched, and moved at a constant cost."""

from __future__ import annotations

import sqlite3

from dbp.job.state import Job, State
from dbp.jobs.store import Store
from dbp.storage.database import Database
from dbp.versions.index import VersionChange, VersionIndex
from dbp.versions.tables import VersionTables


async def move(store: Store, job_id: str, label: str, version: int) -> None:
    change = VersionChange(VersionIndex(job_id), 0.0, version, label=label)
    await store.change_versions(await store.get(job_id), change)


async def test_jobs_are_found_by_a_label_that_they_have_now(store: Store) -> None:
    for name in ("a", "b", "c", "d"):
        await store.create(Job(name, {}, "", 1, State.QUEUED, 0.0))
    moves = [("a", 1), ("b", 1), ("c", 2), ("a", 3), ("b", 0), ("a", 2), ("d", 0), ("d", 4)]
    for job, version in moves:
        await move(store, job, "live", version)
        await move(store, job, "other", 1)
    await move(store, "d", "live", 0)

    assert await store.jobs_labelled("live") == ["a", "c"], (
        "the one that moved last comes first"
    )
    assert await store.jobs_labelled("nowhere") == []


async def test_cost_of_moving_a_label_is_independent_of_earlier_moves(
    database: Database, store: Store
) -> None:
    """Counted in steps of SQLite's machine."""

    async def steps() -> int:
        counted = [0]

        def count() -> int:
            counted[0] += 1
            return 0

        database._reader.set_progress_handler(count, 1)
        await store.jobs_labelled("best")
        database._reader.set_progress_handler(None, 1)
        return counted[0]

    await store.create(Job("a", {}, "", 1, State.QUEUED, 0.0))
    await move(store, "a", "best", 1)
    await steps()  # the first one reads the schema
    before = await steps()

    def move_often(connection: sqlite3.Connection) -> None:
        for version in range(2, 1_000):
            VersionTables(connection)._move("a", "best", version, 0.0)

    await database.write(move_often)

    assert await steps() == before
