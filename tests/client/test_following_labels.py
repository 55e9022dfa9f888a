"""Following a label: a reader gets every version that the label moves to, earlier ones too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from dbp.client.async_client import AsyncClient
from dbp.client.client import Client
from dbp.errors import InvalidInput, LabelNotFound
from tests.deadline import DEADLINE
from tests.service.setups import Run, Service, serving, tensors, until


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state", heartbeat_seconds=0.1) as service:
        yield service


@pytest.fixture
async def run(service: Service) -> Run:
    """A run with versions 1 to 3."""
    run = await service.start(publish={"every_steps": 1, "keep": 5})
    for step in (1, 2, 3):
        await run.publish(step, tensors(seed=step))
    return run


@pytest.fixture
async def client(service: Service) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(service.address, patience=5.0) as client:
        yield client


async def test_for_a_label_newer_means_another_version(client: AsyncClient, run: Run) -> None:
    job = await client.job(run.id)
    await job.move_label("stable", 3)
    assert await job.parameters(label="stable", newer_than=3) is None
    await job.move_label("stable", 2)

    found = await job.parameters(label="stable", newer_than=3)
    assert found is not None
    assert found.version.version == 2
    waiting = asyncio.create_task(job.parameters(label="stable", newer_than=2, wait=DEADLINE))
    await asyncio.sleep(0)  # the move may come before or after the request: both must do
    await job.move_label("stable", 1)
    moved = await waiting
    assert moved is not None
    assert moved.version.version == 1
    for label in ("latest", "newest", ""):
        assert await job.parameters(label=label, newer_than=3) is None
        assert await job.parameters(label=label, newer_than=7) is None


async def test_a_label_of_an_ended_job_is_waited_for(client: AsyncClient, run: Run) -> None:
    job = await client.job(run.id)
    await job.move_label("stable", 3)
    await run.end()
    waiting = asyncio.create_task(job.parameters(label="stable", newer_than=3, wait=DEADLINE))

    await job.move_label("stable", 1)

    found = await waiting
    assert found is not None
    assert found.version.version == 1


async def test_a_mirror_follows_a_label_backwards_and_beyond_the_end_of_its_job(
    client: AsyncClient, run: Run
) -> None:
    job = await client.job(run.id)
    await job.move_label("stable", 3)
    async with job.mirror(label="stable") as mirror:
        known = 0
        for version in (3, 1, 2):
            await job.move_label("stable", version)
            found = await mirror.wait(known, timeout=DEADLINE)
            known = found.version.version
            assert known == version == mirror.version
            assert np.array_equal(found["0.bias"], tensors(seed=version)["0.bias"])
        await run.publish(4, tensors(seed=4))
        await run.end()
        await job.undo_label("stable")

        assert (await mirror.wait(2, timeout=DEADLINE)).version.version == 1
        assert (mirror.ended, mirror.error, mirror.skipped) == (False, None, 0)
        with pytest.raises(TimeoutError, match=r"no version other than 1 came within 0\.1 s"):
            await mirror.wait(1, timeout=0.1)


async def test_a_mirror_reports_a_label_that_is_not_there_and_waits_for_it(
    client: AsyncClient, run: Run
) -> None:
    job = await client.job(run.id)
    async with job.mirror(label="stable") as mirror:
        await until(lambda: mirror.error is not None)
        assert isinstance(mirror.error, LabelNotFound)
        await job.move_label("stable", 2)

        assert (await mirror.wait(timeout=DEADLINE)).version.version == 2
        assert mirror.error is None


async def test_a_mirror_reports_a_label_that_was_removed_until_it_is_back(
    client: AsyncClient, run: Run
) -> None:
    job = await client.job(run.id)
    await job.move_label("stable", 2)
    async with job.mirror(label="stable") as mirror:
        await mirror.wait(timeout=DEADLINE)
        await job.move_label("stable", 0)
        async with asyncio.timeout(30):  # half the time for which the newest is waited for
            await until(lambda: isinstance(mirror.error, LabelNotFound))
        await job.move_label("stable", 2)
        await until(lambda: mirror.error is None)

        assert mirror.version == 2


async def test_a_mirror_of_the_best_ends_with_the_job(client: AsyncClient, run: Run) -> None:
    job = await client.job(run.id)
    async with job.mirror(label="best") as mirror:
        await run.publish(5, tensors(seed=5), best=True)
        assert (await mirror.wait(timeout=DEADLINE)).version.version == 4
        await run.end()

        with pytest.raises(InvalidInput, match="ended at version 4, none other than 4"):
            await mirror.wait(4, timeout=DEADLINE)
        assert mirror.ended


async def test_a_mirror_of_the_best_of_a_job_without_one_ends(
    client: AsyncClient, run: Run
) -> None:
    await run.end()
    async with (await client.job(run.id)).mirror(label="best") as mirror:
        with pytest.raises(InvalidInput, match="the job has ended without a version"):
            await mirror.wait(timeout=DEADLINE)


@pytest.mark.parametrize("data", [False, True])
async def test_a_watch_of_a_label_sends_each_version_it_moves_to(
    client: AsyncClient, run: Run, data: bool
) -> None:
    job = await client.job(run.id)
    updates = job.watch_parameters("*.bias", label="stable", data=data)
    got = []
    async with asyncio.timeout(DEADLINE):
        for version in (2, 3, 1):
            await job.move_label("stable", version)
            update = await anext(updates)
            got.append(update.version.version)
            assert update.skipped == 0
            assert (update.parameters is not None) == data
        await job.move_label("stable", 0)
        await run.end()
        await job.move_label("stable", 3)  # after the end of the job
        got.append((await anext(updates)).version.version)
    await updates.aclose()

    assert got == [2, 3, 1, 3]


async def test_a_watch_of_a_label_begins_after_the_version_that_is_known(
    client: AsyncClient, run: Run
) -> None:
    job = await client.job(run.id)
    await job.move_label("stable", 2)
    updates = job.watch_parameters(label="stable", newer_than=2)
    first = asyncio.ensure_future(anext(updates))
    await job.move_label("stable", 1)

    async with asyncio.timeout(DEADLINE):
        assert (await first).version.version == 1
    await updates.aclose()


async def test_a_watch_of_the_best_ends_with_the_job(client: AsyncClient, run: Run) -> None:
    await run.publish(5, tensors(seed=5), best=True)
    await run.end()

    async with asyncio.timeout(DEADLINE):
        watched = (await client.job(run.id)).watch_parameters(label="best")
        assert [update.version.version async for update in watched] == [4]


async def test_a_watch_of_an_invalid_label_is_refused(client: AsyncClient, run: Run) -> None:
    job = await client.job(run.id)
    with pytest.raises(InvalidInput, match="label: must be 1 to 63"):
        await anext(job.watch_parameters(label="No Label"))


async def test_the_plain_client_follows_labels(service: Service, run: Run) -> None:
    def use() -> None:
        with Client(service.address) as client:
            job = client.job(run.id)
            job.move_label("stable", 3)
            updates = job.watch_parameters(label="stable")
            assert next(updates).version.version == 3
            with job.mirror(label="stable") as mirror:
                assert mirror.wait(timeout=DEADLINE).version.version == 3
                job.move_label("stable", 1)
                assert mirror.wait(3, timeout=DEADLINE).version.version == 1
                assert next(updates).version.version == 1

    await asyncio.to_thread(use)
