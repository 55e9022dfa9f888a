"""Store jobs: rows, events, pages and secrets; full disks and kills."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dbp.errors import AlreadyExists, NotFound, ResourceExhausted, WrongState
from dbp.job.best import BestEpoch
from dbp.job.failure import Failure, FailureReason
from dbp.job.state import Event, EventKind, Job, ProgressReport, RunOutcome, State, Version
from dbp.jobs import store as store_module
from dbp.jobs.job_table import JobTable
from dbp.jobs.store import RequestExists, Store
from dbp.jobs.watch import EventBroadcaster
from dbp.storage.database import Database
from tests.jobs.fakes import FakeClock, queued


async def test_a_job_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    path = tmp_path / "dbp.sqlite"
    database = Database(path)
    store = Store(database)
    version = Version(1, 10, 1, "abc", 100, 5.0)
    progress = ProgressReport(10, 20, 1, 0.5, {"training_loss": 0.5}, 9.0, None, 4.0)
    failure = Failure(FailureReason.RANK_SIGNAL, "gone", 137, 9, ("line",), 10)
    stored = (await store.create(queued("a"))).job
    stored = (await store.append(stored, Event(EventKind.STARTED, 2.0))).job
    stored = (await store.append(stored, Event(EventKind.RUNNING, 3.0, {"host": "h"}))).job
    stored = dataclasses.replace(stored, progress=progress)
    versions = (await store.versions("a")).publish(version, best=False, keep=3, time=5.0)
    stored = (await store.change_versions(stored, versions))[-1].job
    stored = (
        await store.append(stored, Event(EventKind.FAILED, 6.0, {"failure": failure}))
    ).job
    database.close()

    database = Database(path)
    again = Store(database)

    assert await again.get("a") == stored
    assert stored.state is State.FAILED
    assert (stored.progress, stored.failure) == (progress, failure)
    assert (await again.versions("a")).kept == (version,)
    assert [change.kind for change in await again.events_after(0)] == [
        "created", "started", "running", "parameters_published", "failed",
    ]  # fmt: skip
    assert [change.job.state for change in await again.events_after(2)] == [
        "RUNNING", "RUNNING", "FAILED",
    ]  # fmt: skip
    database.close()


async def test_an_event_that_may_not_happen_changes_nothing(store: Store) -> None:
    stored = (await store.create(queued("a"))).job

    with pytest.raises(WrongState):
        await store.append(stored, Event(EventKind.RUNNING, 2.0))

    assert await store.get("a") == stored
    assert len(await store.events_after(0)) == 1


async def test_an_id_is_used_once_and_its_refusal_leaves_no_trace(store: Store) -> None:
    await store.create(queued("a"))

    with pytest.raises(AlreadyExists):
        await store.create(queued("a"), request=("r", "digest"))

    assert await store.request("r") is None
    assert len(await store.events_after(0)) == 1


async def test_a_change_that_fails_midway_leaves_no_trace(store: Store) -> None:
    await store.create(queued("a"), request=("r", "digest"))

    with pytest.raises(RequestExists):
        await store.create(queued("b"), request=("r", "other"))

    assert [item.id for item in await store.live()] == ["a"]
    assert len(await store.events_after(0)) == 1
    assert (await store.create(queued("c"))).sequence == 2, "no number is lost either"


async def test_a_new_job_takes_the_number_after_all_events_kept_or_not(
    database: Database, store: Store
) -> None:
    for name in "abc":
        await store.create(queued(name))
    await database.write(lambda connection: connection.execute("DELETE FROM events"))

    created = await store.create(queued("d"))

    assert created.sequence == 4
    assert (await store.get("d")).sequence == 4
    assert [item.sequence for item in await store.events_after(0)] == [4]
    job = created.job
    assert (await store.append(job, Event(EventKind.STARTED, 2.0))).sequence == 5


async def test_the_row_of_a_new_job_is_written_once(database: Database, store: Store) -> None:
    written: list[str] = []
    database._writer.create_function("note_write", 1, written.append)
    for event in ("INSERT", "UPDATE"):
        database._writer.execute(
            f"CREATE TEMP TRIGGER note_{event} AFTER {event} ON main.jobs "
            "BEGIN SELECT note_write(NEW.id); END"
        )

    await store.create(queued("a"))

    assert written == ["a"]


async def test_pages_are_newest_first_and_filtered(store: Store) -> None:
    for name in "abcde":
        await store.create(queued(name))
    await store.append(await store.get("c"), Event(EventKind.CANCELLED, 2.0))

    page = await store.page(limit=2)
    rest = await store.page([State.QUEUED], limit=9, before=page[-1][0])

    assert [item.id for _, item in page] == ["e", "d"]
    assert [item.id for _, item in rest] == ["b", "a"]
    assert [item.id for item in await store.live()] == ["a", "b", "d", "e"]


async def test_a_page_ends_before_its_specs_take_too_much_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcde":
        await store.create(queued(name))
    monkeypatch.setattr(store_module, "PAGE_BYTES", 1)
    events = EventBroadcaster(store, heartbeat_seconds=60.0, view=lambda job: job)
    table = JobTable(store, events, FakeClock())

    first, token = await table.page((), 3, "", lambda job: job, lambda job: True)
    second, end = await table.page((), 3, token, lambda job: job, lambda job: True)

    assert [item.id for _, item in await store.page(limit=9)] == ["e"]
    assert [[item.id for item in page] for page in (first, second)] == [
        ["e", "d", "c"], ["b", "a"],
    ]  # fmt: skip
    assert end == ""


async def test_secrets_and_outcomes_belong_to_an_attempt(store: Store) -> None:
    stored = (await store.create(queued("a"))).job
    await store.append(stored, Event(EventKind.STARTED, 2.0), secret_hash=b"one")
    best = BestEpoch(2, 2, {"validation_loss": 0.5})
    outcome = RunOutcome(
        "succeeded", "epochs", 3, metrics={"training_loss": 0.1}, best=best, best_restored=True
    )

    await store.set_secret("a", 1, b"two")
    await store.set_outcome("a", 1, outcome)

    assert await store.secret_hash("a", 1) == b"two"
    assert await store.secret_hash("a", 2) is None
    assert await store.outcome("a", 1) == outcome


async def test_old_events_are_dropped_and_the_range_says_so(tmp_path: Path) -> None:
    database = Database(tmp_path / "dbp.sqlite")
    store = Store(database, events_kept=100)

    for number in range(1_000):
        await store.create(queued(f"job{number}"))

    assert await store.sequence_range() == (900, 1_000)
    assert (await store.events_after(0, limit=1))[0].sequence == 901
    database.close()


async def test_a_full_disk_refuses_and_changes_nothing(
    database: Database, store: Store
) -> None:
    await store.create(queued("a"))
    database._writer.execute("PRAGMA max_page_count = 20")

    async def fill() -> None:
        for number in range(2_000):
            await store.create(queued(f"job{number}"))

    with pytest.raises(ResourceExhausted, match="disk is full"):
        await fill()
    kept = len(await store.live())

    assert kept == len(await store.events_after(0, limit=9_999))
    database._writer.execute("PRAGMA max_page_count = 100000")
    await store.create(queued("later"))
    assert (await store.get("later")).sequence == kept + 1


async def test_nothing_is_found_where_nothing_is(store: Store) -> None:
    with pytest.raises(NotFound, match="ghost"):
        await store.get("ghost")


CREATE_AND_SAY = """
import asyncio, sys
from pathlib import Path
from dbp.jobs import store as store_module
from dbp.jobs.job_table import JobTable
from dbp.jobs.store import Store
from dbp.jobs.watch import EventBroadcaster
from dbp.job.state import Job, State
from dbp.storage.database import Database
async def create():
    store = Store(Database(Path(sys.argv[1])))
    for number in range(int(sys.argv[2]), 10**9):
        await store.create(Job(f"job{number}", {}, "", 1, State.QUEUED, 0.0))
        print(number, flush=True)
asyncio.run(create())
"""


async def test_acknowledged_jobs_survive_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "dbp.sqlite"
    acknowledged = -1
    for round_ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", CREATE_AND_SAY, str(path), str(acknowledged + 1_000)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(7 + round_):
            acknowledged = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split()
        process.stdout.close()
        process.wait()
        acknowledged = int(rest[-1]) if rest else acknowledged

        database = Database(path)
        store = Store(database)
        names = {item.id for item in await store.live()}
        newest = max(int(name.removeprefix("job")) for name in names)
        events = await store.events_after(0, limit=10_000)
        database.close()

        assert f"job{acknowledged}" in names
        assert newest <= acknowledged + 1
        assert len(events) == len(names)


async def test_the_newest_ids_come_first(store: Store) -> None:
    for name in ("a", "b", "c"):
        await store.create(Job(name, {}, "", 1, State.QUEUED, 0.0))

    assert await store.newest_ids(2) == ["c", "b"]
