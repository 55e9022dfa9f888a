"""Labels and pins through both clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dbp.client.async_client import AsyncClient
from dbp.client.client import Client
from dbp.errors import Conflict, InvalidInput, LabelNotFound
from tests.service.setups import Run, Service, serving, tensors


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state") as service:
        yield service


@pytest.fixture
async def run(service: Service) -> Run:
    return await service.start(publish={"every_steps": 1, "keep": 1})


async def test_a_label_moves_by_name_and_back(service: Service, run: Run) -> None:
    async with AsyncClient(service.address) as client:
        job = await client.job(run.id)
        for step in (10, 20):
            await run.publish(step, tensors(seed=step))
            await job.move_label("stable", at="latest")

        found = await job.undo_label("stable")
        assert (found.version, found.previous) == (1, 2)
        assert (await job.move_label("copy", step=20)).version == 2
        assert (await job.pin(at="stable")).version.version == 1
        assert not (await job.pin(1, pinned=False)).pinned
        with pytest.raises(Conflict, match="is at version 1, not at 2"):
            await job.undo_label("stable", expected_version=2)
        with pytest.raises(LabelNotFound):
            await job.undo_label("nowhere")
        entries = {e.version.version: e async for e in job.versions()}
        assert (entries[1].labels, entries[2].left_by) == (("stable",), ("stable",))
        now, moves = await job.labels()
        assert [(m.label, m.version, m.previous) for m in now] == [
            ("copy", 2, 0), ("stable", 1, 2),
        ]  # fmt: skip
        assert [m.previous for m in moves] == [0, 1, 2, 0]


async def test_one_version_must_be_named(service: Service, run: Run) -> None:
    async with AsyncClient(service.address) as client:
        job = await client.job(run.id)
        with pytest.raises(InvalidInput, match="version, at, step: name a version by one"):
            await job.move_label("stable")
        with pytest.raises(InvalidInput, match="version, at, step: name a version by one"):
            await job.pin(1, at="latest")


async def test_the_plain_client_does_the_same(service: Service, run: Run) -> None:
    await run.publish(1, tensors())

    def use() -> None:
        with Client(service.address) as client:
            job = client.job(run.id)
            assert job.move_label("stable", at="latest").version == 1
            assert job.move_label("stable", 0, expected_version=1).version == 0
            assert job.undo_label("stable", expected_version=0).version == 1
            assert job.pin(at="stable").pinned

    await asyncio.to_thread(use)
