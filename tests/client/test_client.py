"""The plain client: the async core from any thread, and an end that is clean."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from safetensors.numpy import load_file

import dbp
from dbp.errors import InvalidInput, InvalidSpec, NotFound, Unavailable
from dbp.job.state import State
from tests.deadline import DEADLINE
from tests.service.setups import Service, document, serving, tensors, until

T = TypeVar("T")


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state") as service:
        yield service


async def in_thread(work: Callable[[], T]) -> T:
    """Run plain code as a user would, while the service continues here.

    The loop's own threads are the service's: users that wait must not take them all.
    """
    with ThreadPoolExecutor(1, "user") as threads:
        return await asyncio.get_running_loop().run_in_executor(threads, work)


def client_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "dbp-client"]


async def test_a_job_from_submission_to_its_parameters(
    service: Service, tmp_path: Path
) -> None:
    with dbp.Client(service.address) as client:
        job = await in_thread(lambda: client.submit(document(), workers=2))
        assert (await in_thread(job.get)).workers == 2
        await until(lambda: job.id in service.launcher.runs)
        run = service.run_of(job.id)
        await run.attach(world_size=2)
        arrays = tensors()
        await run.publish(3, arrays)
        run.write_log("hello\n")

        found = await in_thread(lambda: job.parameters("0.*"))
        assert found is not None
        np.testing.assert_array_equal(found["0.bias"], arrays["0.bias"], strict=True)
        assert await in_thread(lambda: job.parameters(newer_than=1)) is None
        await in_thread(lambda: job.download(tmp_path / "w.safetensors"))
        assert load_file(tmp_path / "w.safetensors").keys() == arrays.keys()

        waiting = asyncio.create_task(in_thread(job.wait))
        watching = asyncio.create_task(in_thread(lambda: list(job.watch())))
        await run.end()
        assert (await waiting).state == State.SUCCEEDED
        assert (await watching)[-1].job is not None
        assert await in_thread(lambda: list(job.logs())) == ["hello"]
        assert [j.id for j in await in_thread(lambda: list(client.jobs()))] == [job.id]
        assert await in_thread(lambda: list(client.jobs(State.RUNNING))) == []
        assert (await in_thread(job.cancel)).state == State.SUCCEEDED
    assert client_threads() == []


async def test_errors_come_as_themselves(service: Service) -> None:
    with dbp.Client(service.address) as client:
        with pytest.raises(NotFound, match="no-such-job"):
            await in_thread(lambda: client.job("no-such-job"))
        with pytest.raises(InvalidSpec):
            await in_thread(lambda: client.submit({}))
        with pytest.raises(InvalidInput, match="workers"):
            await in_thread(lambda: client.submit(document(), workers=-1))


def test_an_address_that_is_none_leaves_no_thread() -> None:
    with pytest.raises(InvalidInput, match="HOST:PORT"):
        dbp.Client("nowhere")
    assert client_threads() == []


async def test_several_threads_share_a_client(service: Service) -> None:
    with dbp.Client(service.address) as client:

        def use() -> list[str]:
            job = client.submit(document())
            update = next(iter(job.watch()))
            return [job.id, update.job_id, job.get().id, client.job(job.id).id]

        found = await asyncio.gather(*(in_thread(use) for _ in range(8)))

    ids = {names[0] for names in found}
    assert len(ids) == 8
    assert all(len(set(names)) == 1 for names in found)


async def test_closing_ends_the_waits_of_other_threads(service: Service) -> None:
    run = await service.start()
    client = dbp.Client(service.address)
    job = await in_thread(lambda: client.job(run.id))
    started = threading.Event()

    def watch() -> None:
        for _ in job.watch():
            started.set()

    waiting = asyncio.create_task(in_thread(job.wait))
    watching = asyncio.create_task(in_thread(watch))
    await until(started.is_set)
    await in_thread(client.close)

    for task in (waiting, watching):
        with pytest.raises(Unavailable, match="has been closed"):
            await task
    with pytest.raises(Unavailable, match="has been closed"):
        job.get()
    with pytest.raises(Unavailable, match="has been closed"):
        next(job.watch())
    client.close()
    assert client_threads() == []


async def test_iterators_left_early_end_silently(service: Service) -> None:
    run = await service.start()

    def leave() -> None:
        with dbp.Client(service.address) as client:
            job = client.job(run.id)
            for _ in job.watch():
                break
            forgotten = job.watch()
            next(forgotten)
            del forgotten
            gc.collect()
            assert job.get().id == run.id
            outlives = job.watch()
            next(outlives)
        del outlives
        gc.collect()

    await in_thread(leave)

    assert client_threads() == []


async def test_a_program_that_forgets_to_close_ends_all_the_same(service: Service) -> None:
    program = (
        "import sys, dbp\n"
        "client = dbp.Client(sys.argv[1])\n"
        f"updates = client.submit({document()!r}).watch()\n"
        "print(next(updates).kind)\n"
    )

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", program, service.address],
            capture_output=True, text=True, timeout=DEADLINE,
        )  # fmt: skip

    done = await in_thread(run)

    assert (done.returncode, done.stdout, done.stderr) == (0, "snapshot\n", "")


def test_a_service_that_is_not_there_is_named_soon() -> None:
    with dbp.Client("127.0.0.1:1") as client, pytest.raises(Unavailable, match="dbp serve"):
        client.job("x")


async def test_a_callback_that_waits_for_its_own_client_is_refused(service: Service) -> None:
    run = await service.start()
    await run.publish(1, tensors(values=700_000))

    def use() -> None:
        with dbp.Client(service.address) as client:
            job = client.job(run.id)

            def ask(*_: int) -> None:
                client.job(run.id)

            job.parameters(on_bytes=ask)

    with pytest.raises(InvalidInput, match="cannot wait for the client itself"):
        await in_thread(use)


async def test_a_callback_that_closes_its_own_client_is_refused(service: Service) -> None:
    run = await service.start()
    await run.publish(1, tensors(values=700_000))

    def use() -> None:
        with dbp.Client(service.address) as client:

            def leave(*_: int) -> None:
                client.close()

            client.job(run.id).parameters(on_bytes=leave)

    with pytest.raises(InvalidInput, match="cannot wait for the client itself"):
        await in_thread(use)


async def test_a_callback_that_exits_ends_the_call_and_not_the_client(
    service: Service,
) -> None:
    run = await service.start()
    await run.publish(1, tensors(values=700_000))

    def use() -> int:
        with dbp.Client(service.address) as client:
            job = client.job(run.id)
            with pytest.raises(SystemExit, match="3"):
                job.parameters(on_bytes=lambda *_: sys.exit(3))
            found = job.parameters()
            return 0 if found is None else found.version.version

    assert await in_thread(use) == 1


CLOSED_IN_FLIGHT = """
import sys, threading, time, dbp
client = dbp.Client(sys.argv[1])
job = client.job(sys.argv[2])
mirror = job.mirror()
mirror.start()
mirror.wait(timeout=100)
updates = job.watch_parameters(data=True)
next(updates)

def wait():
    try:
        job.parameters(newer_than=1000, wait=50)
    except dbp.errors.Unavailable:
        pass

def follow():
    try:
        list(updates)
    except dbp.errors.Unavailable:
        pass

threads = [threading.Thread(target=work) for work in (wait, follow)]
for thread in threads:
    thread.start()
time.sleep(0.3)
client.close()
for thread in threads:
    thread.join()
"""


async def test_a_client_that_is_closed_in_the_middle_prints_nothing(service: Service) -> None:
    run = await service.start()
    await run.publish(1, tensors())
    arguments = [sys.executable, "-c", CLOSED_IN_FLIGHT, service.address, run.id]
    done = await in_thread(
        lambda: subprocess.run(arguments, capture_output=True, text=True, timeout=DEADLINE)
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


SECOND_LOOP = """
import asyncio, dbp

async def make():
    return dbp.AsyncClient("127.0.0.1:1", patience=0)

async def use(client):
    for call in (lambda: client.job("x"), client.close):
        try:
            await call()
        except dbp.errors.WrongEventLoop as error:
            print(error)

asyncio.run(use(asyncio.run(make())))
try:
    dbp.AsyncClient()
except RuntimeError as error:
    print(error)
"""


def test_an_asyncio_client_outside_its_loop_is_refused_and_prints_nothing_else() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SECOND_LOOP],
        capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    first, second, outside = done.stdout.splitlines()
    assert first == second
    assert "was made in another event loop; make one client for each asyncio.run()" in first
    assert "no event loop is running" in outside
