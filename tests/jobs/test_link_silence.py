"""Runs whose link sends nothing: a condition of the job, which goes when it is heard again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dbp.job.failure import ConditionKind
from dbp.job.state import State
from dbp.jobs.link_silence import SILENCE_SECONDS
from tests.jobs.fakes import Plane, control_plane, settle, spec
from tests.jobs.runs import attach, ended, finish


async def conditions(plane: Plane, job_id: str) -> list[ConditionKind]:
    return [condition.kind for condition in (await plane.manager.get(job_id)).conditions]


async def test_a_silent_link_is_a_condition_until_it_is_heard_again(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        await attach(plane, job)
        attach_time = plane.clock.now

        for _ in range(5):  # heartbeats
            await plane.clock.advance(SILENCE_SECONDS / 4)
            assert await conditions(plane, job.id) == []
            plane.manager.silence.heard(job.id)
        await plane.clock.advance(SILENCE_SECONDS / 2)
        assert await conditions(plane, job.id) == []
        # A link lives on while its rank is stopped.
        assert (await plane.manager.get(job.id)).report_time == attach_time

        await plane.clock.advance(SILENCE_SECONDS)
        await plane.clock.advance(SILENCE_SECONDS)
        assert await conditions(plane, job.id) == [ConditionKind.LOST_CONTACT]
        assert (await plane.manager.get(job.id)).state is State.RUNNING

        plane.manager.silence.heard(job.id)
        assert await conditions(plane, job.id) == []
        for _ in range(3):
            await plane.clock.advance(SILENCE_SECONDS)
        assert await conditions(plane, job.id) == [ConditionKind.LOST_CONTACT]


async def test_a_link_that_is_gone_is_noted_too_and_a_new_one_ends_that(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        plane.manager.detached(await attach(plane, job))
        await plane.clock.advance(SILENCE_SECONDS)
        await plane.clock.advance(SILENCE_SECONDS)
        assert await conditions(plane, job.id) == [ConditionKind.LOST_CONTACT]

        await attach(plane, job)

        assert await conditions(plane, job.id) == []


async def test_an_ended_job_is_not_watched(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        await attach(plane, job)
        finish(plane, job.id)
        await ended(plane, job.id)

        plane.manager.silence.heard(job.id)  # late
        await plane.clock.advance(SILENCE_SECONDS)
        await plane.clock.advance(SILENCE_SECONDS)

        assert await conditions(plane, job.id) == []


async def test_late_messages_to_a_paused_job_start_no_watch(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1)
        await settle()
        await attach(plane, job)
        await plane.manager.lifecycle.pause(job.id)
        finish(plane, job.id, "stopped", code=75)
        await settle()
        assert (await plane.manager.get(job.id)).state is State.PAUSED
        tasks = len(asyncio.all_tasks())

        plane.manager.silence.heard(job.id)
        await settle()

        assert len(asyncio.all_tasks()) == tasks


def watches() -> int:
    """The number of links that are watched in this loop."""
    names = [str(task.get_coro()) for task in asyncio.all_tasks()]
    return sum("LinkSilence._watch" in name for name in names)


async def test_a_watch_ends_with_its_run_or_with_the_service(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        first, second = [await plane.manager.create(spec(), workers=1) for _ in range(2)]
        await settle()
        for job in (first, second):
            await attach(plane, job)
        assert watches() == 2

        finish(plane, first.id)
        await ended(plane, first.id)
        assert watches() == 1
        plane.manager.silence.heard(first.id)  # late
        assert watches() == 1

    await settle()
    assert watches() == 0
