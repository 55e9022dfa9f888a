"""Rank 0's reporter and its link, a real process, against a real service on a free port."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.job.state import RunOutcome
from dbp.launch.launcher import Exit
from dbp.link.reporter import MAX_EPOCHS_BACKLOG_BYTES, SLOTS
from dbp.link.session import LINGER_SECONDS
from dbp.train.report.sink import Command
from dbp.v1 import job_pb2
from dbp.v1 import job_service_pb2 as jobs_pb
from tests.deadline import DEADLINE
from tests.link.reporting import (
    STARTED,
    SUCCEEDED,
    closed,
    joined,
    launched,
    link,
    links,
    progress,
    published,
    snapshot,
    stored_steps,
    vector,
)
from tests.service.setups import Service, serving, until

DISK_FULL = job_pb2.JOB_CONDITION_KIND_DISK_FULL

pytestmark = pytest.mark.processes


async def test_reports_of_a_run_arrive(service: Service, tmp_path: Path) -> None:
    reporter = await launched(service, tmp_path / "state")
    reporter.started(STARTED)
    reporter.snapshot(snapshot(40))
    await published(service, reporter.job, 40)
    reporter.progress(progress(50, epoch_end=True))
    reporter.snapshot(snapshot(100, final=True))
    reporter.finished(SUCCEEDED)
    assert await closed(reporter) < DEADLINE

    job = await service.get(reporter.job)
    assert job.state == job_pb2.JOB_STATE_RUNNING
    assert (job.progress.step, job.progress.metrics["training_loss"]) == (50, 1 / 50)
    assert job.latest_parameters.final
    assert stored_steps(tmp_path / "state", reporter.job) == [40, 100]
    # The reported outcome counts where its result file is missing.
    service.launcher.runs[reporter.job].end(Exit(exit_code=0))
    assert (await service.ended(reporter.job)).state == job_pb2.JOB_STATE_SUCCEEDED


async def test_a_run_launched_by_hand_ends_with_its_outcome(service: Service) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    reporter.snapshot(snapshot(100, final=True))
    reporter.finished(SUCCEEDED)
    await closed(reporter)

    job = await service.ended(reporter.job)

    assert job.attached
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert job.latest_parameters.final


async def test_a_run_that_ends_before_its_first_step_is_reported_at_once(
    service: Service,
) -> None:
    reporter = await joined(service)
    reporter.finished(RunOutcome("failed", "INVALID_DATA", 0, 0, message="no such file"))

    assert await closed(reporter) < DEADLINE

    job = await service.ended(reporter.job)
    assert job.state == job_pb2.JOB_STATE_FAILED
    assert job.failure.reason == job_pb2.FAILURE_REASON_INVALID_DATA
    assert job.failure.message == "no such file"


async def test_a_stopped_link_delays_no_rank_and_loses_no_outcome(
    service: Service, tmp_path: Path
) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    process = link()
    process.suspend()  # a single wait for it would last for ever
    for step in range(1, 3001):
        reporter.progress(progress(step))
        reporter.poll()
    for step in (10, 20, 30):  # two slots: the third is left out
        reporter.snapshot(snapshot(step))
    reporter.progress(progress(3001, epoch_end=True))

    process.resume()
    while (await service.get(reporter.job)).latest_parameters.step != 20:
        reporter.poll()
        await asyncio.sleep(0.01)
    reporter.snapshot(snapshot(40, final=True))
    reporter.finished(SUCCEEDED)
    await closed(reporter)

    job = await service.ended(reporter.job)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert job.progress.step == 3001
    assert stored_steps(tmp_path / "state", reporter.job) == [10, 20, 40]


@pytest.mark.parametrize("started", [False, True])
async def test_a_full_disk_before_the_first_report_is_shown(
    service: Service, tmp_path: Path, started: bool
) -> None:
    reporter = await launched(service, tmp_path / "state")
    if started:
        reporter.started(STARTED)

    async def shown(text: str) -> job_pb2.Job:
        reporter.note_disk_full(text)
        async with asyncio.timeout(DEADLINE):
            while True:
                job = await service.get(reporter.job)
                found = [c.message for c in job.conditions if c.kind == DISK_FULL]
                if found == [text] * bool(text):
                    return job
                await asyncio.sleep(0.01)

    job = await shown("spec.json cannot be written")
    assert not job.HasField("progress")
    await shown("")
    reporter.started(STARTED)
    reporter.progress(progress(1))
    reporter.finished(SUCCEEDED)
    await closed(reporter)


async def test_the_final_parameters_wait_for_a_slot(service: Service, tmp_path: Path) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    process = link()
    process.suspend()
    reporter.snapshot(snapshot(10))
    reporter.snapshot(snapshot(20))
    last = asyncio.create_task(asyncio.to_thread(reporter.snapshot, snapshot(30, final=True)))
    done, _ = await asyncio.wait([last], timeout=0.3)
    assert not done

    process.resume()
    await last
    reporter.finished(SUCCEEDED)
    await closed(reporter)

    assert stored_steps(tmp_path / "state", reporter.job) == [10, 20, 30]


@pytest.mark.parametrize("slots", [1, 2], ids=["in a slot", "without a slot"])
async def test_best_parameters_that_cannot_be_delivered_are_left_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: int
) -> None:
    monkeypatch.setattr("dbp.link.reporter.LAUNCHED_PATIENCE_SECONDS", 0.5)
    async with serving(tmp_path / "state") as service:
        reporter = await launched(service, tmp_path / "state")
        reporter.started(STARTED)
        reporter.snapshot(snapshot(10, best=True))
        async with asyncio.timeout(DEADLINE):
            while len(reporter._free_slots) < SLOTS:  # it is delivered
                reporter.poll()
                await asyncio.sleep(0.01)
    for step in range(20, 20 + slots):
        assert reporter.snapshot(snapshot(step))
    taken = await asyncio.to_thread(reporter.snapshot, snapshot(30, best=True, last=slots > 1))
    assert taken == (slots == 1)

    await closed(reporter, timeout=0.5)

    content = (tmp_path / "best.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + length])["__metadata__"]["dbp.step"] == "30"
    np.testing.assert_array_equal(np.frombuffer(content[8 + length :], np.float32), vector(30))


async def test_delivered_best_parameters_leave_no_file(
    service: Service, tmp_path: Path
) -> None:
    reporter = await launched(service, tmp_path / "state")
    reporter.started(STARTED)
    reporter.snapshot(snapshot(10, best=True))
    await published(service, reporter.job, 10)
    reporter.finished(SUCCEEDED)
    await closed(reporter)

    assert not (tmp_path / "best.safetensors").exists()


@pytest.mark.parametrize("stopped", [False, True], ids=["service away", "link stopped"])
async def test_closing_ends_in_time(tmp_path: Path, stopped: bool) -> None:
    async with serving(tmp_path / "state") as service:
        reporter = await joined(service)
        reporter.started(STARTED)
    process = link()
    if stopped:
        process.suspend()
    reporter.snapshot(snapshot(10))
    reporter.finished(SUCCEEDED)

    assert await closed(reporter, timeout=0.5) < LINGER_SECONDS / 2

    assert not process.is_running()


async def test_the_link_finds_a_service_that_has_moved(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with serving(state) as service:
        old = service.address
        reporter = await launched(service, state)
        reporter.started(STARTED)
        reporter.progress(progress(1))
        await until(lambda: _is_announced(state, old))
        async with asyncio.timeout(DEADLINE):
            while (await service.get(reporter.job)).state != job_pb2.JOB_STATE_RUNNING:
                await asyncio.sleep(0.01)

    # Whatever happens meanwhile is kept.
    reporter.snapshot(snapshot(60))
    reporter.progress(progress(60, epoch_end=True))
    with socket.socket() as squatter:  # so that the same port is not chosen again
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", int(old.rpartition(":")[2])))
        async with serving(state) as service:
            assert service.address != old
            await published(service, reporter.job, 60)
            reporter.finished(SUCCEEDED)
            assert await closed(reporter) < DEADLINE
            job = await service.get(reporter.job)
            assert job.progress.step == 60
            service.launcher.runs[reporter.job].end(Exit(exit_code=0))
            ended = await service.ended(reporter.job)
            assert ended.state == job_pb2.JOB_STATE_SUCCEEDED


def _is_announced(state: Path, address: str) -> bool:
    return bool(json.loads((state / "service.json").read_text())["address"] == address)


async def test_a_request_to_stop_comes_down(service: Service) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    assert reporter.poll() is Command.NONE
    async with asyncio.timeout(DEADLINE):
        while (await service.get(reporter.job)).state != job_pb2.JOB_STATE_RUNNING:
            await asyncio.sleep(0.01)

    await service.jobs.CancelJob(jobs_pb.CancelJobRequest(name=f"jobs/{reporter.job}"))

    await until(lambda: reporter.poll() is Command.STOP)
    assert reporter.poll() is Command.STOP  # it stays asked
    reporter.finished(RunOutcome("stopped", "stop_requested", 3, 1))
    await closed(reporter)
    assert (await service.ended(reporter.job)).state == job_pb2.JOB_STATE_CANCELLED


async def test_nothing_is_left_when_it_is_closed(service: Service) -> None:
    before = _used()

    for _ in range(3):
        reporter = await joined(service)
        reporter.started(STARTED)
        reporter.snapshot(snapshot(1))
        reporter.finished(SUCCEEDED)
        await closed(reporter)
        await service.ended(reporter.job)

    await until(lambda: _used() == before)


def _used() -> tuple[list[Any], int, list[str]]:
    """Links, shared memory, and threads, except the pools of event loop and service."""
    files = [_target(fd) for fd in os.listdir("/proc/self/fd")]  # noqa: PTH208
    pools = ("asyncio", "database-")
    threads = [t.name for t in threading.enumerate() if not t.name.startswith(pools)]
    return links(), sum("dbp-parameters" in file for file in files), threads


def _target(number: str) -> str:
    try:
        return str(Path(f"/proc/self/fd/{number}").readlink())
    except OSError:
        return ""


async def test_backlog_for_a_hanging_link_is_bounded(service: Service) -> None:
    reporter = await joined(service)
    process = link()
    process.suspend()

    for step in range(1, 20_000):
        reporter.progress(progress(step, epoch_end=True))

    assert reporter._keeper.backlog < MAX_EPOCHS_BACKLOG_BYTES + 1_000
    process.kill()
    await closed(reporter, timeout=1.0)


async def test_without_memory_for_versions_a_run_continues_and_reports(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int, size: int) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    reporter = await joined(service)
    reporter.started(STARTED)
    with monkeypatch.context() as context, caplog.at_level(logging.WARNING, "dbp.rpc"):
        context.setattr(os, "ftruncate", refuse)
        assert reporter.snapshot(snapshot(10))
    assert reporter.snapshot(snapshot(20, final=True))
    reporter.finished(SUCCEEDED)
    await closed(reporter)

    job = await service.ended(reporter.job)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert not job.HasField("latest_parameters")
    assert [r.getMessage() for r in caplog.records if r.name == "dbp.rpc"] == [
        "no parameters are published: 5200 bytes: File too large"
    ]
