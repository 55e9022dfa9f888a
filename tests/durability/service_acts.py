"""Promises of the service to its clients: jobs, their states, versions, labels, pins."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import sqlite3
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, final

from dbp.errors import JobNotFound, WrongState
from dbp.job.state import EventKind, Job, RunOutcome
from dbp.jobs.link_fence import LinkNumber
from dbp.launch.launcher import Exit
from dbp.storage.checkpoints import CHECKPOINTS, newest_sound
from dbp.versions.index import At
from tests.durability.act import Acknowledger, Act
from tests.jobs.fakes import FakeLauncher, Plane, control_plane, data, manifest, settle, spec

Step: TypeAlias = Callable[[Plane, Acknowledger], Awaitable[None]]
LARGE: Final = 1_000  # values of a version: several blocks of a disk
KEPT: Final = 2


def service(
    folder: Path,
    before_start: Callable[[Plane], Awaitable[None]] | None = None,
    **config: Any,
) -> AbstractAsyncContextManager[Plane]:
    """One life of a service with one slot; jobs get the same ids in every run."""
    numbers: defaultdict[str, Iterator[int]] = defaultdict(partial(itertools.count, 1))

    def new_id(name: str) -> str:
        return f"{name}-{next(numbers[name])}"

    return control_plane(folder, slots=1, new_id=new_id, before_start=before_start, **config)


@final
class ServiceAct(Act):
    """Some steps of clients and runs, one after the other."""

    def __init__(
        self,
        name: str,
        *steps: Step,
        before: tuple[Step, ...] = (),
        launcher: Callable[[], FakeLauncher] = FakeLauncher,
        **config: Any,
    ) -> None:
        """``before``: steps that are durable before the act; ``config``: of the service."""
        self._name = name
        self._launcher = launcher
        self._before = before
        self._steps = steps
        self._config = config

    @property
    def name(self) -> str:
        return self._name

    def prepare(self, folder: Path) -> None:
        if self._before:
            asyncio.run(self._take(folder, self._before, lambda fact: None))

    def run(self, folder: Path, acknowledge: Acknowledger, done: int = 0) -> None:
        asyncio.run(self._take(folder, self._steps[done:], acknowledge))

    def recover(self, folder: Path) -> str:
        return asyncio.run(_recover(folder / "state", self._launcher()))

    def promised(self, facts: str) -> str:
        return facts.rpartition("rows: ")[0]  # a restart changes the rows

    async def _take(
        self, folder: Path, steps: tuple[Step, ...], acknowledge: Acknowledger
    ) -> None:
        config = self._config | {"launcher": self._launcher()}
        async with service(folder / "state", **config) as plane:
            for step in steps:
                await step(plane, acknowledge)
                await settle()


async def _recover(folder: Path, launcher: FakeLauncher) -> str:
    """Read all that is stored, with every version's file; then start a service with it."""
    found: list[str] = []

    async def read(plane: Plane) -> None:
        found.append(await facts_of(plane))

    async with service(folder, read, launcher=launcher) as plane:
        jobs, _ = await plane.manager.list()
        ids = {job.id for job in jobs}
        assert len(jobs) == len(ids)
        # Of a job that is not listed, the start has removed what was left.
        deleted = plane.folder.deleted_folder
        left = [*plane.folder.job_ids(), *(deleted.iterdir() if deleted.is_dir() else [])]
        assert ids.issuperset(left), f"{left} stay, listed are {ids}"
    return found[0]


async def facts_of(plane: Plane) -> str:
    """Return all that is stored, and check the files of the jobs that are listed."""
    lines = []
    for _, job in reversed(await plane.store.page(limit=1_000)):
        lines.append(f"{job.id} {job.state}")
        lines.append(await _versions(plane, job))
        newest = newest_sound(plane.folder.run_folder(job.id) / CHECKPOINTS)
        assert not newest.damaged, newest
        lines += [f"checkpoint {newest.step}"] if newest.step else []
        if (outcome := await plane.store.outcome(job.id, job.attempt)) is not None:
            lines.append(f"outcome of {job.id}: {outcome.status}")
    deleted = await plane.store.ended.deleted(["a-1", "b-1"])
    lines += [f"{job_id} deleted" for job_id in deleted]
    rows = await plane.database.read(_rows)
    lines.append(f"rows: {hashlib.sha256(rows.encode()).hexdigest()[:8]}")
    return "; ".join(filter(None, lines))


async def _versions(plane: Plane, job: Job) -> str:
    """Return a job's versions, whose files are all sound; nothing else stays beside them."""
    versions = plane.manager.versions
    await versions.sweep(job.id)
    index = await versions.index(job.id)
    for version in index.kept:
        with await versions.open(job.id, At(version.version)) as opened:
            assert opened.version.digest == version.digest
    numbers = [
        f"v{version.version}{' final' * version.final} "
        + ("pinned" if version.version in index.pinned else "kept")
        for version in index.kept
    ]
    labels = [f"{label}={version}" for label, version in sorted(index.labels.items())]
    return ", ".join([*numbers, *labels])


def _rows(connection: sqlite3.Connection) -> str:
    """All rows of all tables, without secrets and their digests."""
    tables = [
        name
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        )
        if name != "contents"
    ]
    return repr(
        {
            table: [
                tuple(len(value) if isinstance(value, bytes) else value for value in row)
                for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")
            ]
            for table in tables
        }
    )


# Steps


def create(name: str) -> Step:
    """A client creates a job; the request id makes it safe to ask again."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        document = spec(name, publish={"keep": KEPT})
        job = await plane.manager.create(document, workers=1, request_id=f"request-{name}")
        acknowledge(f"{job.id} {job.state}")

    return step


def register(name: str) -> Step:
    """A run started by hand registers."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        job, _ = await plane.manager.register(
            spec(name), workers=1, request_id=f"request-{name}", host="here"
        )
        acknowledge(f"{job.id} {job.state}")

    return step


def attach(job_id: str) -> Step:
    """The run connects."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        await plane.manager.attached(
            job_id, LinkNumber(1), world_size=1, host="node1", total_steps=9
        )
        acknowledge(f"{job_id} RUNNING")

    return step


def cancel(job_id: str, state: str) -> Step:
    """A client cancels a job."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        await plane.manager.cancel(job_id)
        acknowledge(f"{job_id} {state}")

    return step


def report(job_id: str) -> Step:
    """The run reports how it ended."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        await plane.manager.reports.outcome(job_id, 1, RunOutcome("succeeded", "epochs", 7))
        acknowledge(f"outcome of {job_id}: succeeded")

    return step


def end(job_id: str, state: str, **exit_: Any) -> Step:
    """The processes end; the service makes that durable on its own."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        if (await plane.manager.get(job_id)).state != state:
            plane.launcher.runs[job_id].end(Exit(**exit_))
            await settle()
        assert (await plane.manager.get(job_id)).state == state
        acknowledge(f"{job_id} {state}")

    return step


def publish(number: int, *, final: bool = False, best: bool = False) -> Step:
    """The run publishes a version of job ``a-1``, which keeps two."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        version = await plane.manager.publisher.publish(
            "a-1", 1, step=10 * number, manifest=manifest(LARGE), chunks=data(LARGE, number),
            final=final, best=best,
        )  # fmt: skip
        published = f"v{version.version}{' final' * final} kept"
        acknowledge(f"best={version.version}" if best else published)

    return step


def label(name: str, version: int) -> Step:
    """A client moves a label."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        await plane.manager.parameters.move_label("a-1", name, At(version))
        acknowledge(f"{name}={version}")

    return step


def pin(version: int, *, pinned: bool) -> Step:
    """A client pins a version, or unpins it."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        await plane.manager.versions.change(
            "a-1", lambda index: index.pin(version, pinned=pinned, keep=KEPT, time=1.0)
        )
        acknowledge(f"v{version} {'pinned' if pinned else 'kept'}")

    return step


def record(kind: EventKind) -> Step:
    """The service records an event of job ``a-1``."""

    async def step(plane: Plane, acknowledge: Acknowledger) -> None:
        deleted = kind is EventKind.DELETED
        try:
            job = await plane.manager._table.record("a-1", kind)
        except WrongState:  # it was recorded before a crash
            job = await plane.manager.get("a-1")
        except JobNotFound:
            assert deleted
        acknowledge("a-1 deleted" if deleted else f"a-1 {job.state}")

    return step
