"""Creating jobs: ids, refusals, repeated requests, a full queue."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dbp.errors import (
    AlreadyExists,
    DiskFull,
    InvalidInput,
    InvalidSpec,
    ResourceExhausted,
    WrongState,
)
from dbp.job.state import State
from dbp.jobs.watch_items import Change
from tests.jobs.fakes import control_plane, settle, spec
from tests.jobs.runs import ended, finish


async def test_an_id_begins_with_the_name_and_is_never_used_twice(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        ids = iter(["digits-a", "digits-a", "digits-b"])
        plane.manager._admission._new_id = lambda name: next(ids)

        created = [await plane.manager.create(spec(), workers=1) for _ in range(2)]

        assert [job.id for job in created] == ["digits-a", "digits-b"]


async def test_impossible_jobs_are_refused_and_not_stored(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        with pytest.raises(WrongState, match="5 asked for, this service has 4 slots"):
            await plane.manager.create(spec(), workers=5)
        with pytest.raises(InvalidInput, match="workers: must be >= 1, got 0"):
            await plane.manager.create(spec(), workers=0)
        with pytest.raises(InvalidSpec, match="bad: must not be"):
            await plane.manager.create(spec(bad=True), workers=1)
        for name in ("../x", "", "a/b", "A", "x" * 64, "-a"):
            with pytest.raises(InvalidSpec, match="name"):
                await plane.manager.create(spec(name), workers=1)

        assert await plane.store.events_after(0) == []


async def test_only_validating_stores_nothing(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job = await plane.manager.create(spec(), workers=1, validate_only=True)

        assert job.spec == {"seed": 0, "retry": {"attempts": 0}, "name": "digits"}
        assert await plane.store.live() == []
        assert plane.started == []


async def test_the_same_request_makes_one_job_and_another_is_refused(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        jobs = await asyncio.gather(
            *(plane.manager.create(spec(), workers=1, request_id="r") for _ in range(50))
        )

        assert len({job.id for job in jobs}) == 1
        assert len(await plane.store.live()) == 1
        for document, workers in ((spec(seed=1), 1), (spec(), 2)):
            with pytest.raises(AlreadyExists, match=jobs[0].id):
                await plane.manager.create(document, workers=workers, request_id="r")


async def test_the_same_request_is_known_after_a_restart_and_the_end(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        first = await plane.manager.create(spec(), workers=1, request_id="r")
        await settle()
        finish(plane, first.id)
        await ended(plane, first.id)

    async with control_plane(tmp_path / "s") as plane:
        again = await plane.manager.create(spec(), workers=1, request_id="r")

        assert (again.id, again.state) == (first.id, State.SUCCEEDED)


async def test_a_request_is_known_though_queue_or_disk_are_full_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path / "s", slots=1, max_queued=1) as plane:
        first = await plane.manager.create(spec(), workers=1, request_id="r")
        await settle()
        await plane.manager.create(spec(), workers=1)

        for validate_only in (False, True):
            again = await plane.manager.create(
                spec(), workers=1, request_id="r", validate_only=validate_only
            )
            assert again.id == ("" if validate_only else first.id)
            with pytest.raises(ResourceExhausted, match="the queue is full"):
                await plane.manager.create(
                    spec(), workers=1, request_id="new", validate_only=validate_only
                )

    async def full(*_: object, **__: object) -> Change:
        raise DiskFull("no space")

    async with control_plane(tmp_path / "s", slots=1, max_queued=9) as plane:
        monkeypatch.setattr(plane.store, "create", full)
        assert (await plane.manager.create(spec(), workers=1, request_id="r")).id == first.id
        with pytest.raises(DiskFull):
            await plane.manager.create(spec(), workers=1, request_id="new")


async def test_a_request_is_known_though_the_service_has_fewer_slots_now(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path / "s", slots=4) as plane:
        first = await plane.manager.create(spec(), workers=4, request_id="r")

    async with control_plane(tmp_path / "s", slots=2) as plane:
        again = await plane.manager.create(spec(), workers=4, request_id="r")
        assert again.id == first.id
        with pytest.raises(WrongState, match="4 asked for, this service has 2 slots"):
            await plane.manager.create(spec(), workers=4, request_id="new")


async def test_a_request_is_looked_up_only_where_the_insert_finds_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []
    async with control_plane(tmp_path / "s") as plane:
        lookup = plane.store.request

        async def counted(request_id: str) -> tuple[str, str] | None:
            looked_up.append(request_id)
            return await lookup(request_id)

        monkeypatch.setattr(plane.store, "request", counted)
        await plane.manager.create(spec(), workers=1, request_id="r")
        assert looked_up == []
        await plane.manager.create(spec(), workers=1, request_id="r")
        assert looked_up == ["r"]


async def test_a_full_queue_refuses_jobs_until_one_leaves(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s", slots=1, max_queued=2) as plane:
        jobs = [await plane.manager.create(spec(), workers=1) for _ in range(3)]
        with pytest.raises(ResourceExhausted):
            await plane.manager.create(spec(), workers=1)

        await plane.manager.cancel(jobs[2].id)

        await plane.manager.create(spec(), workers=1)
