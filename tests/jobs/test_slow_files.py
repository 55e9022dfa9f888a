"""Files that are slow to read, write or delete delay only who asked for them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from dbp.job.state import Job
from dbp.jobs.link_fence import LinkNumber
from tests.jobs.fakes import Plane, control_plane, data, manifest, spec

SLOW_SECONDS = 0.5


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with control_plane(tmp_path / "state") as plane:
        yield plane


async def training(plane: Plane) -> Job:
    job = await plane.manager.create(spec(publish={"keep": 1}), workers=1)
    await plane.manager.attached(job.id, LinkNumber(1), world_size=1, host="h", total_steps=10)
    return job


async def publish(plane: Plane, job: Job, step: int) -> None:
    await plane.manager.publisher.publish(
        job.id, 1, step=step, manifest=manifest(), chunks=data(fill=step)
    )


async def held_up(work: Awaitable[object]) -> float:
    """The longest time, in seconds, for which the event loop ran nothing else."""
    task, longest, last = asyncio.ensure_future(work), 0.0, time.monotonic()
    while not task.done():
        await asyncio.sleep(0.001)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    await task
    return longest


def slow(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[str]:
    """Make functions of ``os`` slow; return the names of those that were called."""
    called: list[str] = []

    def make(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wait(*arguments: Any, **named: Any) -> Any:
            called.append(name)
            time.sleep(SLOW_SECONDS)
            return function(*arguments, **named)

        return wait

    for name in names:
        monkeypatch.setattr(os, name, make(name, getattr(os, name)))
    return called


async def test_deleting_an_evicted_version_holds_nothing_up(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await training(plane)
    await publish(plane, job, 1)
    called = slow(monkeypatch, "unlink")

    assert await held_up(publish(plane, job, 2)) < SLOW_SECONDS / 2
    assert called == ["unlink"]


async def test_writing_and_renaming_a_version_holds_nothing_up(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await training(plane)
    called = slow(monkeypatch, "fsync", "replace", "mkdir", "pread")

    assert await held_up(publish(plane, job, 1)) < SLOW_SECONDS / 2
    assert set(called) == {"fsync", "replace", "mkdir", "pread"}


async def test_verifying_a_version_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path / "again") as plane:
        job = await training(plane)
        await publish(plane, job, 1)
    async with control_plane(tmp_path / "again") as plane:
        called = slow(monkeypatch, "pread")

        async def read() -> None:
            with await plane.manager.versions.open(job.id):
                pass

        assert await held_up(read()) < SLOW_SECONDS / 2
        assert "pread" in called


async def test_reading_a_log_holds_nothing_up(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await training(plane)
    path = await plane.manager.log_path(job.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("one\ntwo\n")
    called = slow(monkeypatch, "pread")

    async def read() -> None:
        async with aclosing(plane.manager.logs(job.id)) as items:  # type: ignore[type-var]
            async for _ in items:
                pass

    assert await held_up(read()) < SLOW_SECONDS / 2
    assert "pread" in called


async def test_clearing_up_after_a_crash_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path / "again") as plane:
        job = await training(plane)
        await publish(plane, job, 1)
        left = plane.folder.parameters_folder(job.id) / ".incoming-1"
        left.write_bytes(b"half")
        called = slow(monkeypatch, "unlink")

        assert await held_up(plane.manager.versions.sweep(job.id)) < SLOW_SECONDS / 2
        assert called == ["unlink"]
        assert not left.exists()
