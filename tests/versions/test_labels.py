"""Labels: the version that a label left last is kept until the label's next move."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from dbp.job.job_json import encode_job
from dbp.job.state import Job, LabelMove, State
from dbp.jobs.store import Store
from dbp.storage import schema as store_schema
from dbp.storage.database import Database
from tests.versions.shelf import Shelf


async def move(shelf: Shelf, label: str, version: int) -> None:
    await shelf.move(label, version, time=float(version), keep=1)


async def test_the_version_that_a_label_left_is_kept_until_its_next_move(shelf: Shelf) -> None:
    for step in range(1, 4):
        await shelf.publish(step, keep=1)
        await move(shelf, "stable", step)
    await shelf.publish(4, keep=1)

    assert await shelf.kept() == [2, 3, 4], "version 1 went with the move from 2 to 3"
    assert (await shelf.versions.index("a")).left == {"stable": 2}
    assert (await shelf.versions.index("a")).left_by(2) == ("stable",)
    await move(shelf, "stable", 4)
    assert await shelf.kept() == [3, 4]


async def test_a_removed_label_keeps_its_version_until_it_is_removed_again(
    shelf: Shelf,
) -> None:
    await shelf.publish(1, keep=1)
    await move(shelf, "stable", 1)
    await shelf.publish(2, keep=1)

    await move(shelf, "stable", 0)
    assert await shelf.kept() == [1, 2]
    await move(shelf, "stable", 0)
    assert await shelf.kept() == [2]


async def test_earlier_best_versions_are_not_kept(
    shelf: Shelf,
) -> None:
    for step in (1, 2):
        await shelf.publish(step, best=True, keep=1)

    assert await shelf.kept() == [2]
    assert (await shelf.versions.index("a")).left_by(1) == ()


async def test_versions_that_labels_left_survive_a_restart(tmp_path: Path) -> None:
    shelf = await Shelf.opened(tmp_path / "state")
    for step in (1, 2):
        await shelf.publish(step, keep=1)
        await move(shelf, "stable", step)
    await shelf.publish(3, keep=1)
    before = await shelf.versions.index("a")
    shelf.close()

    shelf = await Shelf.opened(tmp_path / "state")
    await shelf.versions.sweep("a")

    assert await shelf.versions.index("a") == before
    assert before.left == {"stable": 1}
    await shelf.publish(4, keep=1)
    assert await shelf.kept() == [1, 2, 4]
    assert (await shelf.store.labels("a", moves=10))[1] == [
        LabelMove("stable", 1, 1.0, 0),
        LabelMove("stable", 2, 2.0, 1),
    ]
    shelf.close()


async def test_migration_records_the_versions_that_moves_left(tmp_path: Path) -> None:
    path = tmp_path / "dbp.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(store_schema._TABLES)
        for number in (2, 3, 4):
            old.executescript(store_schema._CHANGES[number])
        old.execute("PRAGMA user_version = 4")
        for job_id in ("a", "b"):
            job = Job(job_id, {}, "", 1, State.QUEUED, 0.0)
            old.execute(
                "INSERT INTO jobs (id, state, sequence, spec, record) VALUES (?,?,?,?,?)",
                (job_id, job.state, 1, "{}", encode_job(job)),
            )
        rows = [
            ("a", "x", 1), ("b", "x", 7), ("a", "y", 5), ("a", "x", 2), ("a", "x", 0),
            ("a", "y", 6),
        ]  # fmt: skip
        for time, row in enumerate(rows):
            old.execute(
                "INSERT INTO label_moves (job, label, version, time) VALUES (?,?,?,?)",
                (*row, float(time)),
            )

    with contextlib.closing(Database(path)) as database:
        store = Store(database)
        index = await store.versions("a")
        moves = (await store.labels("a", moves=10))[1]
        assert (await store.versions("b")).left == {}

    assert (index.labels, index.left) == ({"y": 6}, {"x": 2, "y": 5})
    assert [(m.label, m.version, m.previous) for m in moves] == [
        ("x", 1, 0), ("y", 5, 0), ("x", 2, 1), ("x", 0, 2), ("y", 6, 5),
    ]  # fmt: skip
