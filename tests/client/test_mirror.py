"""A mirror is always whole, never behind for long, and never waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.client.async_client import AsyncClient
from dbp.client.client import Client
from dbp.client.transport.receiver import Receiver
from dbp.errors import ClientClosed, DbpError, InvalidInput, NotFound, TensorNotFound
from dbp.v1 import parameter_service_pb2 as pb
from tests.deadline import DEADLINE
from tests.service.setups import Run, Service, serving, tensors, until


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state") as service:
        yield service


@pytest.fixture
async def run(service: Service) -> Run:
    return await service.start(publish={"every_steps": 1, "keep": 2})


@pytest.fixture
async def client(service: Service) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(service.address, patience=5.0) as client:
        yield client


async def test_a_mirror_follows_the_run(client: AsyncClient, run: Run) -> None:
    job = await client.job(run.id)
    async with job.mirror() as mirror:
        assert mirror.get() is None
        assert mirror.version == 0
        held: list[Any] = []
        for step in range(1, 6):
            values = tensors(seed=step)
            await run.publish(step, values)
            found = await mirror.wait(step - 1, timeout=DEADLINE)
            assert mirror.get() is found
            assert found.version.step == step
            assert np.array_equal(found["0.weight"], values["0.weight"])
            held.append(found)
        assert [found["0.bias"].tolist() for found in held] == [
            tensors(seed=step)["0.bias"].tolist() for step in range(1, 6)
        ], "sets that were returned never change"
        assert not held[0]["0.bias"].flags.writeable
        assert (mirror.skipped, mirror.ended, mirror.error) == (0, False, None)
        await run.end()
        with pytest.raises(InvalidInput, match="the job has ended at version 5"):
            await mirror.wait(5, timeout=DEADLINE)
        assert mirror.ended
        assert mirror.get() is held[-1]


async def test_a_mirror_may_hold_a_part_in_half_the_size(client: AsyncClient, run: Run) -> None:
    await run.publish(1, tensors())
    job = await client.job(run.id)
    async with job.mirror("*.bias", cast="F16") as mirror:
        found = await mirror.wait(timeout=DEADLINE)

    assert list(found.tensors) == ["0.bias"]
    assert found["0.bias"].dtype == np.float16
    assert np.array_equal(found["0.bias"], tensors()["0.bias"].astype(np.float16))


async def test_a_mirror_of_nothing_says_so(client: AsyncClient, run: Run) -> None:
    await run.publish(1, tensors())
    job = await client.job(run.id)

    async with job.mirror("9.*") as mirror:
        with pytest.raises(TensorNotFound):
            await mirror.wait(timeout=DEADLINE)
        assert isinstance(mirror.error, NotFound)
    async with job.mirror(cast="F99") as mirror:
        with pytest.raises(InvalidInput, match="F16 or BF16"):
            await mirror.wait(timeout=DEADLINE)


async def test_waiting_for_a_mirror_that_was_not_started_is_refused(
    client: AsyncClient, run: Run
) -> None:
    mirror = (await client.job(run.id)).mirror()

    async with asyncio.timeout(DEADLINE):
        with pytest.raises(InvalidInput, match=r"not been started: .* or call start"):
            await mirror.wait()


async def test_a_mirror_outlives_the_service(tmp_path: Path) -> None:
    async with serving(tmp_path / "state") as first:
        run = await first.start(publish={"every_steps": 1, "keep": 2})
        await run.publish(1, tensors())
        port = int(first.address.rpartition(":")[2])
        client = AsyncClient(first.address)
        mirror = (await client.job(run.id)).mirror()
        mirror.start()
        before = await mirror.wait(timeout=DEADLINE)
        launcher = first.launcher
    assert mirror.get() is before
    async with serving(tmp_path / "state", launcher=launcher, port=port) as second:
        again = second.run_of(run.id)
        await again.attach()
        await again.publish(2, tensors(seed=2))
        assert (await mirror.wait(1, timeout=DEADLINE)).version.step == 2
        await mirror.close()
        await client.close()


async def test_get_takes_no_lock_and_never_goes_back(service: Service, run: Run) -> None:
    """Threads read a plain mirror while versions are published; each holds its own step."""
    await run.publish(1, {"0.weight": np.full((50, 50), 1, np.float32)})
    client = await asyncio.to_thread(Client, service.address)
    job = await asyncio.to_thread(client.job, run.id)
    mirror = await asyncio.to_thread(job.mirror)
    await asyncio.to_thread(mirror.start)
    first = await asyncio.to_thread(mirror.wait, 0, 10.0)
    assert first.version.version == 1
    stop = threading.Event()
    wrong: list[str] = []
    seen: set[int] = set()

    def read() -> None:
        newest = 0
        while not stop.is_set():
            found = mirror.get()
            assert found is not None
            step = found.version.step
            if not (found["0.weight"] == step).all() or step < newest:
                wrong.append(f"step {step} after {newest}")
            newest = step
            seen.add(step)

    readers = [threading.Thread(target=read, daemon=True) for _ in range(3)]
    for reader in readers:
        reader.start()
    for step in range(2, 60):
        await run.publish(step, {"0.weight": np.full((50, 50), step, np.float32)})
    await until(lambda: mirror.version == 59)
    stop.set()
    for reader in readers:
        await asyncio.to_thread(reader.join)
    await asyncio.to_thread(mirror.close)
    await asyncio.to_thread(client.close)

    assert not wrong
    assert len(seen) > 2


async def test_a_mirror_of_a_job_that_ended_without_a_version_ends_too(
    client: AsyncClient, run: Run
) -> None:
    job = await client.job(run.id)
    async with job.mirror() as mirror:
        waiting = asyncio.create_task(mirror.wait(timeout=DEADLINE))
        await asyncio.sleep(0.1)
        await run.end("failed", code=1)

        with pytest.raises(InvalidInput, match="the job has ended without a version"):
            await waiting
    assert mirror.ended
    assert mirror.error is None


async def test_a_mirror_that_is_closed_says_so_and_not_that_the_job_has_ended(
    service: Service, run: Run
) -> None:
    await run.publish(1, tensors())
    client = AsyncClient(service.address)
    job = await client.job(run.id)
    first, second = job.mirror(), job.mirror()
    for mirror in (first, second):
        mirror.start()
        await mirror.wait(timeout=DEADLINE)
    waiting = [
        asyncio.create_task(mirror.wait(1, timeout=DEADLINE)) for mirror in (first, second)
    ]
    await asyncio.sleep(0.1)

    await first.close()
    with pytest.raises(ClientClosed, match="the mirror has been closed"):
        await waiting[0]
    await client.close()
    with pytest.raises(ClientClosed, match="the client has been closed"):
        await waiting[1]

    assert not first.ended
    assert not second.ended
    await second.close()


async def test_an_unexpected_error_ends_a_mirror_and_is_reported(
    client: AsyncClient, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run.publish(1, tensors())

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("dbp.client.async_mirror.parameter_set", broken)
    async with (await client.job(run.id)).mirror() as mirror:
        with pytest.raises(DbpError, match="the mirror has failed: ZeroDivisionError: oh"):
            await mirror.wait(timeout=DEADLINE)


async def test_a_service_with_nothing_new_is_not_asked_without_end(
    client: AsyncClient, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run.publish(1, tensors())
    asked = 0

    async def nothing(*_: Any, **__: Any) -> Any:
        nonlocal asked
        asked += 1
        return Receiver(pb.StreamParametersRequest())

    monkeypatch.setattr("dbp.client.async_parameters.AsyncParameters.receive", nothing)
    began = time.monotonic()
    async with (await client.job(run.id)).mirror():
        await until(lambda: asked >= 2)
        await asyncio.sleep(0.5)

    # Pauses double from 0.05 s to 2 s.
    assert asked <= 6 + (time.monotonic() - began) / 2


async def test_a_plain_mirror_may_be_closed_after_its_client(
    service: Service, run: Run
) -> None:
    await run.publish(1, tensors())

    def use() -> None:
        with Client(service.address) as client:
            mirror = client.job(run.id).mirror()
            mirror.start()
            mirror.wait(timeout=DEADLINE)
        mirror.close()

    await asyncio.to_thread(use)
