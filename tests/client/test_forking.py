"""Clients and processes: what a fork, an exec, a pickle and a thread do to them."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import dbp
from dbp.errors import InvalidInput
from tests.deadline import DEADLINE
from tests.service.setups import Run, Service, serving, tensors

# Every program has: address, job_id; in_child(work), which prints what a forked child meets.
START = f"""
import asyncio, multiprocessing, os, subprocess, sys, threading, time, traceback
import dbp
address, job_id = sys.argv[1:]

def in_child(*works):
    pid = os.fork()
    if pid == 0:
        for work in works:
            try:
                work()
                print("fine")
            except dbp.errors.ClientForked as error:
                print("refused")
                assert "spawn" in str(error) and "forkserver" in str(error), error
            except BaseException as error:
                print(repr(error))
        sys.stdout.flush()
        os._exit(0)
    wait(pid)

def wait(pid):
    end = time.monotonic() + {DEADLINE / 2}
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            print("the child hangs")
            return
        time.sleep(0.02)
    print("exit code", os.waitstatus_to_exitcode(ended[1]))

def ask():
    with dbp.Client(address) as client:
        assert client.job(job_id).get().id == job_id

"""


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state") as service:
        yield service


@pytest.fixture
async def run(service: Service) -> Run:
    run = await service.start()
    await run.publish(1, tensors(values=700_000))
    return run


async def printed(service: Service, run: Run, program: str) -> list[str]:
    """Run a user's program and return its output; the service answers meanwhile."""
    command = [sys.executable, "-c", START + program, service.address, run.id]

    def start() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)

    with ThreadPoolExecutor(1, "user") as threads:
        done = await asyncio.get_running_loop().run_in_executor(threads, start)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


async def test_a_client_its_jobs_and_mirrors_refuse_to_work_in_a_forked_child(
    service: Service, run: Run
) -> None:
    program = """
client = dbp.Client(address)
job = client.job(job_id)
updates, lines = job.watch(), job.logs(follow=True)
next(updates)
mirror = job.mirror()
mirror.start()
version = mirror.wait(timeout=100).version.version

def raise_error_of_mirror():
    raise mirror.error

in_child(
    lambda: client.job(job_id), lambda: list(client.jobs()), job.get, job.parameters, job.wait,
    lambda: job.download("never"), lambda: job.predict([[0]]), job.mirror,
    lambda: next(updates), lambda: next(lines), lambda: next(job.watch_parameters()),
    mirror.get, lambda: mirror.wait(5), mirror.start, raise_error_of_mirror,
)
assert mirror.get().version.version == version and mirror.error is None
assert job.get().id == job_id
client.close()
"""
    assert await printed(service, run, program) == ["refused"] * 15 + ["exit code 0"]


@pytest.mark.parametrize("closed", [False, True])
async def test_no_new_client_works_in_a_child_forked_after_one_was_made(
    service: Service, run: Run, closed: bool
) -> None:
    program = f"""
client = dbp.Client(address)
client.job(job_id)
if {closed}:
    client.close()

async def ask_async():
    async with dbp.AsyncClient(address) as inner:
        await inner.get(job_id)

in_child(ask, lambda: asyncio.run(ask_async()), lambda: in_child(ask))
ask()
"""
    lines = await printed(service, run, program)
    assert lines == ["refused", "refused", "refused", "exit code 0", "fine", "exit code 0"]


async def test_an_async_client_refuses_to_work_in_a_child_and_continues_in_the_parent(
    service: Service, run: Run
) -> None:
    program = """
async def new_client():
    dbp.AsyncClient(address)

async def main():
    async with dbp.AsyncClient(address) as client:
        job = await client.job(job_id)
        async with job.mirror() as mirror:
            await mirror.wait(timeout=100)
            updates = job.watch()
            await anext(updates)
            download = asyncio.create_task(job.parameters())
            await asyncio.sleep(0)
            pid = os.fork()
            if pid == 0:
                for work in (
                    job.get, job.parameters, lambda: anext(updates), lambda: mirror.wait(9),
                    lambda: anext(job.logs()), new_client, lambda: client.submit({"name": "x"}),
                ):
                    try:
                        await work()
                        print("fine")
                    except dbp.errors.ClientForked:
                        print("refused")
                    except dbp.errors.InvalidSpec:
                        print("judged before a service is asked")
                await mirror.close()
                await client.close()
                sys.stdout.flush()
                os._exit(0)
            wait(pid)
            assert (await download).version.version == 1
            await updates.aclose()
asyncio.run(main())
"""
    refused = ["refused"] * 6 + ["judged before a service is asked"]
    assert await printed(service, run, program) == [*refused, "exit code 0"]


async def test_a_forked_child_that_does_other_work_is_not_crashed_by_grpc(
    service: Service, run: Run
) -> None:
    """gRPC's fork handlers would start threads in it: about one child in four would die."""
    program = """
async def main():
    for _ in range(30):
        async with dbp.AsyncClient(address) as client:
            job = await client.job(job_id)
            async with job.mirror() as mirror:
                await mirror.wait(timeout=100)
                updates = job.watch()
                await anext(updates)
                download = asyncio.create_task(job.parameters())
                await asyncio.sleep(0)
                pid = os.fork()
                if pid == 0:
                    time.sleep(0.05)
                    os._exit(7)
                wait(pid)
                await download
                await updates.aclose()
asyncio.run(main())
assert "GRPC_ENABLE_FORK_SUPPORT" not in os.environ
"""
    assert await printed(service, run, program) == ["exit code 7"] * 30


async def test_a_child_leaves_the_parents_client_and_ends(service: Service, run: Run) -> None:
    program = """
import gc
client = dbp.Client(address)
with client, client.job(job_id).mirror() as mirror:
    mirror.wait(timeout=100)
    updates = client.watch()
    next(updates)
    pid = os.fork()
    if pid:
        wait(pid)
        assert mirror.error is None
        ask()
if pid == 0:
    del client, mirror, updates
    gc.collect()
    sys.exit(7)
"""
    assert await printed(service, run, program) == ["exit code 7"]


async def test_a_download_under_way_survives_a_fork_in_another_thread(
    service: Service, run: Run
) -> None:
    program = """
client = dbp.Client(address)
job = client.job(job_id)
begun, forked = threading.Event(), threading.Event()
found = []

def on_bytes(received, total):
    begun.set()
    forked.wait(100)

thread = threading.Thread(target=lambda: found.append(job.parameters(on_bytes=on_bytes)))
thread.start()
begun.wait(100)
in_child(job.parameters)
forked.set()
thread.join()
print(found[0].version.version)
client.close()
"""
    assert await printed(service, run, program) == ["refused", "exit code 0", "1"]


async def test_children_forked_before_the_first_client_work_as_their_parent_does(
    service: Service, run: Run
) -> None:
    program = """
in_child(ask)
process = multiprocessing.get_context("fork").Process(target=ask)
process.start()
process.join()
print(process.exitcode)
ask()
"""
    assert await printed(service, run, program) == ["fine", "exit code 0", "0"]


async def test_programs_started_by_exec_or_subprocess_work_beside_a_client(
    service: Service, run: Run
) -> None:
    program = """
client = dbp.Client(address)
mirror = client.job(job_id).mirror()
mirror.start()
mirror.wait(timeout=100)
asking = "import sys, dbp; print(dbp.Client(sys.argv[1]).job(sys.argv[2]).get().state)"
command = [sys.executable, "-c", asking, address, job_id]
print(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    os.execv(sys.executable, command)
wait(pid)
ask()
client.close()
"""
    assert await printed(service, run, program) == ["RUNNING", "RUNNING", "exit code 0"]


MULTIPROCESSING = """
import multiprocessing, sys
import dbp

def state(address, job_id):
    try:
        with dbp.Client(address) as client:
            return client.job(job_id).get().state.value
    except dbp.errors.ClientForked:
        return "refused"

if __name__ == "__main__":
    address, job_id = sys.argv[1:]
    with dbp.Client(address) as client:
        job = client.job(job_id)
        for method in ("fork", "spawn", "forkserver"):
            with multiprocessing.get_context(method).Pool(1) as pool:
                print(method, pool.apply(state, (address, job.id)))
"""


async def test_multiprocessing_works_beside_a_client_by_spawn_and_forkserver(
    service: Service, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "program.py"  # spawn imports the main module from its file
    file.write_text(MULTIPROCESSING)
    arguments = [service.address, run.id]
    program = f"subprocess.run([sys.executable, {str(file)!r}, *{arguments!r}], check=True)"

    lines = await printed(service, run, program)

    assert lines == ["fork refused", "spawn RUNNING", "forkserver RUNNING"]


async def test_clients_jobs_and_mirrors_are_not_pickled_or_copied(
    service: Service, run: Run
) -> None:
    def use() -> list[Any]:
        client = dbp.Client(service.address)
        job = client.job(run.id)
        return [client, job, job.mirror()]

    with ThreadPoolExecutor(1, "user") as threads:
        plain = await asyncio.get_running_loop().run_in_executor(threads, use)
    async with dbp.AsyncClient(service.address) as client:
        job = await client.job(run.id)
        attempts: list[Callable[[Any], Any]] = [pickle.dumps, copy.copy, copy.deepcopy]
        for found in (*plain, client, job, job.mirror()):
            name = type(found).__name__
            for attempt in attempts:
                with pytest.raises(InvalidInput, match=rf"{name} cannot be pickled .*dbp\.Cli"):
                    attempt(found)
    plain[0].close()
