"""Jobs whose data are large wait in the queue until a process has checked them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import InvalidData, Unavailable
from dbp.job.failure import ConditionKind, FailureReason
from dbp.job.state import Job, State
from dbp.jobs.checks import Checked, CheckFailedError, CheckRequest, NotCheapError
from tests.jobs.fakes import Plane, control_plane, fake_check, settle, spec


class Apart:
    """Checks in processes that are not there: the first rows are sound, the rest as set."""

    def __init__(self) -> None:
        self.requests: list[CheckRequest] = []
        self.whole: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def check(self, request: CheckRequest) -> Checked:
        self.requests.append(request)
        if request.whole:
            await asyncio.shield(self.whole)
        found = fake_check(request.document, request.workers)
        return Checked(found.document, found.digest, is_whole=request.whole)


def large(document: Mapping[str, Any], workers: int) -> Checked:
    raise NotCheapError(whole=False)


def kinds(job: Job) -> list[ConditionKind]:
    return [condition.kind for condition in job.conditions]


def plane(path: Path, apart: Apart) -> Any:
    return control_plane(path, check=large, check_apart=apart.check)


async def checking(plane: Plane, apart: Apart) -> Job:
    job = await plane.manager.create(spec(), workers=1)
    await settle()
    assert apart.requests[-1].whole
    return job


async def test_a_job_is_checking_until_all_of_its_data_are_checked(tmp_path: Path) -> None:
    apart = Apart()
    async with plane(tmp_path, apart) as p:
        job = await checking(p, apart)
        waits = await p.manager.get(job.id)
        apart.whole.set_result(None)
        await settle()

        assert [request.whole for request in apart.requests] == [False, True]
        assert (waits.state, kinds(waits)) == (State.QUEUED, [ConditionKind.CHECKING])
        assert waits.waiting_reason == "its data are being checked"
        assert p.started == [job.id]
        assert kinds(await p.manager.get(job.id)) == []


async def test_other_jobs_start_before_one_that_is_checking(tmp_path: Path) -> None:
    cheap: list[bool] = []

    def check(document: Mapping[str, Any], workers: int) -> Checked:
        return fake_check(document, workers) if cheap else large(document, workers)

    apart = Apart()
    async with control_plane(tmp_path, check=check, check_apart=apart.check) as p:
        await checking(p, apart)
        cheap.append(True)
        other = await p.manager.create(spec(), workers=1)
        await settle()

        assert p.started == [other.id]


async def test_bad_data_fail_the_job_before_it_starts(tmp_path: Path) -> None:
    apart = Apart()
    async with plane(tmp_path, apart) as p:
        job = await checking(p, apart)
        apart.whole.set_exception(InvalidData("data.train: x.csv:9: the cell is empty"))
        await settle()
        ended = await p.manager.get(job.id)

        assert ended.state is State.FAILED
        assert ended.failure is not None
        assert ended.failure.reason is FailureReason.INVALID_DATA
        assert ended.failure.message == "data.train: x.csv:9: the cell is empty"
        assert p.started == []


async def test_a_check_that_takes_too_long_is_left_to_the_ranks(tmp_path: Path) -> None:
    apart = Apart()
    async with plane(tmp_path, apart) as p:
        job = await checking(p, apart)
        apart.whole.set_exception(CheckFailedError("the check takes more than 3600 s"))
        await settle()

        assert p.started == [job.id]


async def test_a_checking_job_can_be_cancelled(tmp_path: Path) -> None:
    apart = Apart()
    async with plane(tmp_path, apart) as p:
        job = await checking(p, apart)
        cancelled = await p.manager.cancel(job.id)
        apart.whole.set_exception(InvalidData("x"))
        await settle()
        assert apart.whole.exception()  # else asyncio logs it, perhaps within another test

        assert cancelled.state is State.CANCELLED
        assert (await p.manager.get(job.id)).state is State.CANCELLED


async def test_a_paused_job_is_checked_again_when_it_is_resumed(tmp_path: Path) -> None:
    apart = Apart()
    async with plane(tmp_path, apart) as p:
        job = await checking(p, apart)
        await p.manager.lifecycle.pause(job.id)
        await settle()
        await p.manager.lifecycle.resume(job.id)
        await settle()
        apart.whole.set_result(None)
        await settle()

        assert [request.whole for request in apart.requests] == [False, True, True]
        assert p.started == [job.id]


async def test_a_restarted_service_checks_again(tmp_path: Path) -> None:
    apart = Apart()
    async with plane(tmp_path, apart) as p:
        job = await checking(p, apart)
    again = Apart()
    async with plane(tmp_path, again) as p:
        await settle()
        waits = await p.manager.get(job.id)
        again.whole.set_result(None)
        await settle()

        assert kinds(waits) == [ConditionKind.CHECKING]
        assert p.started == [job.id]


async def test_a_check_that_a_caller_can_wait_for_is_made_before_the_answer(
    tmp_path: Path,
) -> None:
    def middling(document: Mapping[str, Any], workers: int) -> Checked:
        raise NotCheapError(whole=True)

    apart = Apart()
    apart.whole.set_exception(InvalidData("data.train: x.csv:9: the cell is empty"))
    async with control_plane(tmp_path, check=middling, check_apart=apart.check) as p:
        with pytest.raises(InvalidData, match=r"x\.csv:9"):
            await p.manager.create(spec(), workers=1)


async def test_a_check_that_outlasts_the_callers_patience_goes_on_as_checking(
    tmp_path: Path,
) -> None:
    def middling(document: Mapping[str, Any], workers: int) -> Checked:
        raise NotCheapError(whole=True)

    apart = Apart()
    calls = 0

    async def check(request: CheckRequest) -> Checked:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise CheckFailedError("the check takes more than 10 s")
        return await apart.check(request)

    async with control_plane(tmp_path, check=middling, check_apart=check) as p:
        job = await p.manager.create(spec(), workers=1)
        await settle()

        assert kinds(await p.manager.get(job.id)) == [ConditionKind.CHECKING]


async def test_a_service_that_ends_leaves_the_check_to_the_next_one(tmp_path: Path) -> None:
    apart = Apart()
    async with plane(tmp_path, apart) as p:
        job = await checking(p, apart)
        apart.whole.set_exception(Unavailable("the service is shutting down"))
        await settle()

        assert (await p.manager.get(job.id)).state is State.QUEUED
        assert p.started == []
