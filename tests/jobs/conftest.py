"""A database, broadcaster or state folder for every test that asks for one; slow commits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dbp.job.state import Job
from dbp.jobs.store import Store
from dbp.storage.database import Database
from dbp.versions.index import At
from tests.jobs.fakes import control_plane, settle, spec
from tests.jobs.lost_database import publish
from tests.jobs.runs import attach
from tests.jobs.stage import Stage
from tests.storage.slow_commits import SlowCommits


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    opened = Stage(tmp_path / "dbp.sqlite")
    yield opened
    opened.database.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "dbp.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowCommits:
    """Commits so slow that other changes come in between."""
    commits = SlowCommits(monkeypatch)
    commits.seconds = 0.03
    return commits


@pytest.fixture
async def jobs(tmp_path: Path) -> tuple[Path, list[Job]]:
    """A state folder with a running job that has published, and two that wait."""
    async with control_plane(tmp_path / "s", slots=1) as plane:
        jobs = [await plane.manager.create(spec(), workers=1) for _ in range(3)]
        await settle()
        await attach(plane, jobs[0])
        await publish(plane, jobs[0], 10, 20, 30)
        await plane.manager.parameters.move_label(jobs[0].id, "production", At(2))
    return tmp_path / "s", jobs


@pytest.fixture
def soon_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two deleted jobs stay known; their events do not."""
    monkeypatch.setattr("dbp.jobs.event_table._PRUNE_EVERY", 1)
    monkeypatch.setattr("dbp.jobs.ended_jobs.DELETED_KEPT", 2)
    monkeypatch.setattr("dbp.jobs.removal.FORGET_EVERY", 1)
