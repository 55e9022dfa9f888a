from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbp.errors import (
    AlreadyExists,
    Conflict,
    DataLoss,
    NotFound,
    ResourceExhausted,
    WrongState,
)
from dbp.job.best import BestEpoch
from dbp.job.job_json import encode_job
from dbp.job.state import (
    Event,
    EventKind,
    Failure,
    FailureReason,
    Job,
    ProgressReport,
    RunOutcome,
    State,
    Version,
)
from dbp.jobs.store import Store
from dbp.storage import schema as store_schema
from dbp.storage.schema import SCHEMA_VERSION
from dbp.versions.index import VersionChange, VersionIndex


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "dbp.sqlite")
    yield opened
    opened.close()


def job(name: str, time: float = 1.0) -> Job:
    return Job(name, {"name": name, "layers": [1, 2.5]}, "d1", 2, State.QUEUED, time)


def test_a_job_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    path = tmp_path / "dbp.sqlite"
    store = Store(path)
    version = Version(1, 10, 1, "abc", 100, 5.0)
    progress = ProgressReport(10, 20, 1, 0.5, {"training_loss": 0.5}, 9.0, None, 4.0)
    failure = Failure(FailureReason.RANK_SIGNAL, "gone", 137, 9, ("line",), 10)
    stored = store.create(job("a")).job
    stored = store.append(stored, Event(EventKind.STARTED, 2.0)).job
    stored = store.append(stored, Event(EventKind.RUNNING, 3.0, {"host": "h"})).job
    change = {"latest_parameters": version, "progress": progress}
    published = Event(EventKind.PARAMETERS_PUBLISHED, 5.0, change)
    versions = store.versions("a").publish(version, best=False, keep=3, time=5.0)
    stored = store.append(stored, published, versions=versions).job
    stored = store.append(stored, Event(EventKind.FAILED, 6.0, {"failure": failure})).job
    store.close()

    again = Store(path)

    assert again.get("a") == stored
    assert stored.state is State.FAILED
    assert (stored.progress, stored.failure) == (progress, failure)
    assert again.versions("a").kept == (version,)
    assert [change.kind for change in again.events_after(0)] == [
        "created", "started", "running", "parameters_published", "failed",
    ]  # fmt: skip
    assert [change.job.state for change in again.events_after(2)] == [
        "RUNNING", "RUNNING", "FAILED",
    ]  # fmt: skip
    again.close()


def test_an_event_that_may_not_happen_changes_nothing(store: Store) -> None:
    stored = store.create(job("a")).job

    with pytest.raises(WrongState):
        store.append(stored, Event(EventKind.RUNNING, 2.0))

    assert store.get("a") == stored
    assert len(store.events_after(0)) == 1


def test_an_id_is_used_once_and_its_refusal_leaves_no_trace(store: Store) -> None:
    store.create(job("a"))

    with pytest.raises(AlreadyExists):
        store.create(job("a"), request=("r", "digest"))

    assert store.request("r") is None
    assert len(store.events_after(0)) == 1


def test_a_change_that_fails_midway_leaves_no_trace(store: Store) -> None:
    store.create(job("a"), request=("r", "digest"))

    with pytest.raises(sqlite3.IntegrityError):
        store.create(job("b"), request=("r", "other"))

    assert [item.id for item in store.live()] == ["a"]
    assert len(store.events_after(0)) == 1
    assert store.create(job("c")).sequence == 2, "no number is lost either"


def test_pages_are_newest_first_and_filtered(store: Store) -> None:
    for name in "abcde":
        store.create(job(name))
    store.append(store.get("c"), Event(EventKind.CANCELLED, 2.0))

    page = list(store.page(limit=2))
    rest = list(store.page([State.QUEUED], limit=9, before=page[-1][0]))

    assert [item.id for _, item in page] == ["e", "d"]
    assert [item.id for _, item in rest] == ["b", "a"]
    assert [item.id for item in store.live()] == ["a", "b", "d", "e"]


def test_secrets_and_outcomes_belong_to_an_attempt(store: Store) -> None:
    stored = store.create(job("a")).job
    store.append(stored, Event(EventKind.STARTED, 2.0), secret_hash=b"one")
    best = BestEpoch(2, 2, {"validation_loss": 0.5})
    outcome = RunOutcome(
        "succeeded", "epochs", 3, metrics={"training_loss": 0.1}, best=best, best_restored=True
    )

    store.set_secret("a", 1, b"two")
    store.set_outcome("a", 1, outcome)

    assert store.secret_hash("a", 1) == b"two"
    assert store.secret_hash("a", 2) is None
    assert store.outcome("a", 1) == outcome


def test_old_events_are_dropped_and_the_range_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "dbp.sqlite", events_kept=100)

    for number in range(1_000):
        store.create(job(f"job{number}"))

    assert store.sequence_range() == (900, 1_000)
    assert store.events_after(0, limit=1)[0].sequence == 901
    store.close()


def test_a_full_disk_refuses_and_changes_nothing(store: Store) -> None:
    store.create(job("a"))
    store._connection.execute("PRAGMA max_page_count = 20")

    def fill() -> None:
        for number in range(2_000):
            store.create(job(f"job{number}"))

    with pytest.raises(ResourceExhausted, match="disk is full"):
        fill()
    kept = len(store.live())

    assert kept == len(store.events_after(0, limit=9_999))
    store._connection.execute("PRAGMA max_page_count = 100000")
    store.create(job("later"))
    assert store.get("later").sequence == kept + 1


def test_nothing_is_found_where_nothing_is(store: Store) -> None:
    with pytest.raises(NotFound, match="ghost"):
        store.get("ghost")


def test_a_newer_schema_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "dbp.sqlite"
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()

    with pytest.raises(Conflict, match="newer dbp"):
        Store(path)


@pytest.mark.parametrize("damage", [b"garbage" * 1000, None])
def test_a_damaged_file_is_refused_not_read(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "dbp.sqlite"
    store = Store(path)
    for number in range(200):
        store.create(job(f"job{number}"))
    store.close()
    content = bytearray(path.read_bytes())
    if damage is None:
        middle = slice(4096, len(content) // 2)
        content[middle] = b"\xa5" * len(content[middle])
    path.write_bytes(damage or content)

    with pytest.raises(DataLoss, match="restore it from a backup"):
        Store(path)


CREATE_AND_SAY = """
import sys
from pathlib import Path
from dbp.jobs.store import Store
from dbp.job.state import Job, State
store = Store(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), 10**9):
    store.create(Job(f"job{number}", {}, "", 1, State.QUEUED, 0.0))
    print(number, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
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

        store = Store(path)
        names = {item.id for item in store.live()}
        newest = max(int(name.removeprefix("job")) for name in names)
        events = store.events_after(0, limit=10_000)
        store.close()

        assert f"job{acknowledged}" in names
        assert newest <= acknowledged + 1
        assert len(events) == len(names)


def test_a_file_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "dbp.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(f"BEGIN; {store_schema._TABLES} PRAGMA user_version = 1; COMMIT;")
        job = Job("a", {}, "", 1, State.QUEUED, 0.0)
        old.execute(
            "INSERT INTO jobs (id, state, sequence, spec, record) VALUES (?,?,?,?,?)",
            ("a", job.state, 1, "{}", encode_job(job)),
        )
        old.execute("INSERT INTO versions VALUES ('a', 1, 10, 1, 'ab', 5, 2.0, 0)")
    for _ in range(2):  # once to change it, once as it is then
        store = Store(path)
        try:
            assert store.versions("a").kept == (Version(1, 10, 1, "ab", 5, 2.0),)
            assert store.versions("a").labels == {}
        finally:
            store.close()


def move(store: Store, job_id: str, label: str, version: int) -> None:
    change = VersionChange(VersionIndex(job_id), 0.0, version, label=label)
    store.change_versions(job_id, change)


def test_jobs_are_found_by_a_label_that_they_have_now(store: Store) -> None:
    for name in ("a", "b", "c", "d"):
        store.create(Job(name, {}, "", 1, State.QUEUED, 0.0))
    moves = [("a", 1), ("b", 1), ("c", 2), ("a", 3), ("b", 0), ("a", 2), ("d", 0), ("d", 4)]
    for job, version in moves:
        move(store, job, "live", version)
        move(store, job, "other", 1)
    move(store, "d", "live", 0)

    assert store.jobs_labelled("live") == ["a", "c"], "the one that moved last comes first"
    assert store.jobs_labelled("nowhere") == []


def test_what_a_label_costs_does_not_grow_with_its_moves(store: Store) -> None:
    """Counted in steps of SQLite's machine."""

    def steps() -> int:
        counted = [0]

        def count() -> int:
            counted[0] += 1
            return 0

        store._connection.set_progress_handler(count, 1)
        store.jobs_labelled("best")
        store._connection.set_progress_handler(None, 1)
        return counted[0]

    store.create(Job("a", {}, "", 1, State.QUEUED, 0.0))
    move(store, "a", "best", 1)
    before = steps()
    with store._transaction():
        for version in range(2, 1_000):
            store._versions._move("a", "best", version, 0.0)

    assert steps() == before


def test_the_newest_ids_come_first(store: Store) -> None:
    for name in ("a", "b", "c"):
        store.create(Job(name, {}, "", 1, State.QUEUED, 0.0))

    assert store.newest_ids(2) == ["c", "b"]
