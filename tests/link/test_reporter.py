"""Rank 0's reporter and its link, a real process, against a real service on a free port."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from dbp.errors import InvalidInput, Unavailable
from dbp.job.state import RunOutcome
from dbp.launch.launcher import Exit
from dbp.link.reporter import BY_HAND_PATIENCE_SECONDS, MAX_EPOCHS_BACKLOG_BYTES, Reporter
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
    progress,
    published,
    snapshot,
    vector,
    versions,
)
from tests.service.setups import Service, document, serving, until

pytestmark = pytest.mark.processes


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state") as service:
        yield service


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
    kept = versions(tmp_path / "state", reporter.job)
    assert sorted(kept) == [40, 100]
    for step, content in kept.items():
        np.testing.assert_array_equal(content, vector(step))
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
    assert sorted(versions(tmp_path / "state", reporter.job)) == [10, 20, 40]


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

    assert sorted(versions(tmp_path / "state", reporter.job)) == [10, 20, 30]


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
    links = [p for p in psutil.Process().children() if "dbp.link.process" in p.cmdline()]
    files = [_target(fd) for fd in os.listdir("/proc/self/fd")]  # noqa: PTH208
    pools = ("asyncio", "database-")
    threads = [t.name for t in threading.enumerate() if not t.name.startswith(pools)]
    return links, sum("dbp-parameters" in file for file in files), threads


def _target(number: str) -> str:
    try:
        return str(Path(f"/proc/self/fd/{number}").readlink())
    except OSError:
        return ""


def test_an_address_without_a_service_is_reported_soon() -> None:
    began = time.monotonic()

    with pytest.raises(
        Unavailable, match='dbp serve`, or name another with address="HOST:PORT"'
    ):
        Reporter.join("127.0.0.1:1", document(), 1)

    assert time.monotonic() - began < BY_HAND_PATIENCE_SECONDS
    assert not _used()[0]


def test_an_address_that_is_none_is_bad_input() -> None:
    with pytest.raises(InvalidInput, match="HOST:PORT"):
        Reporter.join("nonsense", document(), 1)

    assert not _used()[0]


async def test_a_spec_that_the_service_refuses_is_bad_input(service: Service) -> None:
    bad = document(optimizer={"kind": "adm", "learning_rate": 0.1})

    with pytest.raises(InvalidInput, match="optimizer") as caught:
        await asyncio.to_thread(Reporter.join, service.address, bad, 1)

    assert "did you mean 'adam'" in str(caught.value)
    assert not _used()[0]


async def test_a_ctrl_c_meant_for_the_ranks_spares_the_link(service: Service) -> None:
    reporter = await joined(service)
    process = link()

    assert os.getsid(process.pid) == process.pid  # a terminal's signals go to a session

    process.send_signal(signal.SIGKILL)
    await closed(reporter)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
async def test_a_signal_to_all_processes_of_a_run_leaves_it_a_link(
    service: Service, number: signal.Signals
) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    process = link()

    process.send_signal(number)
    reporter.snapshot(snapshot(10, final=True))
    reporter.finished(RunOutcome("stopped", "stop_requested", 10, 1))
    await closed(reporter)

    job = await service.ended(reporter.job)
    assert job.latest_parameters.final
    assert job.state == job_pb2.JOB_STATE_CANCELLED


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
