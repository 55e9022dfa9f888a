"""Connections of links: a newer link replaces the older one, and reports are applied once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dbp.errors import WrongState
from dbp.job.state import Job
from dbp.jobs.connections import RunConnection
from dbp.jobs.link_fence import LinkNumber
from tests.jobs.fakes import Plane, control_plane, settle, spec
from tests.jobs.runs import ended, finish

FIRST, SECOND = LinkNumber(1, 1), LinkNumber(1, 2)


async def launched(plane: Plane) -> Job:
    job = await plane.manager.create(spec(), workers=1)
    await settle()
    return job


async def admit(plane: Plane, job: Job, link: LinkNumber) -> None:
    await plane.manager.authorize(job.id, link, plane.launcher.requests[0].secret)


async def connect(plane: Plane, job: Job, link: LinkNumber) -> RunConnection:
    await admit(plane, job, link)
    return await plane.manager.attached(job.id, link, world_size=1, host="node1", total_steps=9)


async def is_closed(connection: RunConnection) -> bool:
    """Whether its iteration ends, once all requests to the run were read."""
    reading = asyncio.ensure_future(anext(connection))
    await settle()
    closed = reading.done() and isinstance(reading.exception(), StopAsyncIteration)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return closed


async def test_a_newer_link_disconnects_the_older_one_with_its_first_call(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await launched(plane)
        older = await connect(plane, job, FIRST)
        assert not await is_closed(older)

        await admit(plane, job, SECOND)

        assert await is_closed(older)
        with pytest.raises(WrongState, match="link 1 of attempt 1 was replaced"):
            await plane.manager.attached(
                job.id, FIRST, world_size=1, host="node1", total_steps=9
            )


async def test_links_of_an_attempt_share_the_reports_that_were_applied(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await launched(plane)
        older = await connect(plane, job, FIRST)
        older.applied.newest = 5

        assert (await connect(plane, job, SECOND)).applied.newest == 5


async def test_the_links_of_an_ended_job_are_forgotten_with_it(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await launched(plane)
        connection = await connect(plane, job, SECOND)
        finish(plane, job.id)
        await ended(plane, job.id)

        plane.manager.links.check(job.id, FIRST)  # raises nothing
        assert await is_closed(connection)


async def test_a_service_that_ends_closes_the_connections(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        connection = await connect(plane, await launched(plane), FIRST)

    assert await is_closed(connection)
