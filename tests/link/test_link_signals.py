"""Links that are killed or signalled: another one delivers everything, once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from dbp.job.state import RunOutcome
from dbp.launch.launcher import Exit
from dbp.link.reporter import BY_HAND_PATIENCE_SECONDS
from dbp.train.report.sink import Command
from dbp.v1 import job_pb2
from dbp.v1 import job_service_pb2 as jobs_pb
from tests.deadline import DEADLINE
from tests.link.reporting import (
    STARTED,
    SUCCEEDED,
    closed,
    filled,
    joined,
    launched,
    link,
    links,
    messages,
    progress,
    snapshot,
    started,
    stored_steps,
    training,
    training_until_published,
)
from tests.service.setups import Service

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("no_zombies")]


@pytest.mark.parametrize("by_hand", [False, True], ids=["launched", "by hand"])
async def test_a_killed_link_is_replaced_and_nothing_is_lost(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture, by_hand: bool
) -> None:
    make = joined(service) if by_hand else launched(service, tmp_path / "state")
    reporter = await make
    old = await started(service, reporter)

    old.kill()
    with caplog.at_level(logging.WARNING, "dbp.rpc"):
        await training(reporter, links)
        reporter.progress(progress(50, epoch_end=True))
        await filled(reporter, 60)
        await training_until_published(service, reporter, 60)
    assert link().pid != old.pid
    await filled(reporter, 100)
    reporter.finished(SUCCEEDED)
    await closed(reporter)

    if not by_hand:
        service.launcher.runs[reporter.job].end(Exit(exit_code=0))
    job = await service.ended(reporter.job)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert job.progress.step == 100
    assert stored_steps(tmp_path / "state", reporter.job) == [10, 60, 100]
    assert messages(caplog) == [
        "the link to the service was killed by SIGKILL; starting another"
    ]


async def test_what_a_dead_link_held_is_delivered_by_the_next(
    service: Service, tmp_path: Path
) -> None:
    reporter = await joined(service)
    held = await started(service, reporter)
    held.suspend()
    reporter.progress(progress(20, epoch_end=True))
    assert reporter.snapshot(snapshot(20))
    assert reporter.snapshot(snapshot(30))
    assert not reporter.snapshot(snapshot(40))  # both slots are filled

    held.kill()

    await training_until_published(service, reporter, 30)
    assert (await service.get(reporter.job)).progress.step == 20
    reporter.finished(SUCCEEDED)
    await closed(reporter)
    assert stored_steps(tmp_path / "state", reporter.job) == [10, 20, 30]


@pytest.mark.timeout(600)  # five links start one after another
@pytest.mark.parametrize("seed", [1, 2])
async def test_five_kills_at_random_moments_leave_neither_gaps_nor_other_bytes(
    service: Service, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moments: while the link starts, while it uploads, while it waits."""
    monkeypatch.setattr("dbp.link.keeper.FIRST_PAUSE_SECONDS", 0.01)
    generator = random.Random(seed)
    reporter = await joined(service)
    reporter.started(STARTED)
    step, kills = 0, 0
    due = time.monotonic() + 0.5
    while kills < 5 or step < 30:
        step += 1
        reporter.progress(progress(step, epoch_end=step % 3 == 0))
        await filled(reporter, step)
        if kills < 5 and time.monotonic() >= due and (alive := links()):
            await asyncio.sleep(generator.uniform(0, 0.02))
            alive[0].kill()
            kills += 1
            due = time.monotonic() + generator.uniform(0, 1.5)
    assert await asyncio.to_thread(reporter.snapshot, snapshot(step + 1, final=True))
    reporter.finished(SUCCEEDED)
    await closed(reporter)

    job = await service.ended(reporter.job)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert job.latest_parameters.final
    assert job.latest_parameters.version == step + 1  # one a step: none is lost, none doubled
    assert stored_steps(tmp_path / "state", reporter.job)[-1] == step + 1


async def test_a_link_killed_at_the_very_end_loses_no_outcome(service: Service) -> None:
    reporter = await joined(service)
    process = await started(service, reporter)
    process.suspend()
    reporter.snapshot(snapshot(100, final=True))
    reporter.finished(SUCCEEDED)
    threading.Timer(0.1, process.kill).start()

    assert await closed(reporter) < BY_HAND_PATIENCE_SECONDS

    job = await service.ended(reporter.job)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert job.latest_parameters.final


async def test_a_link_that_dies_while_it_registers_makes_one_job(service: Service) -> None:
    def kill_first() -> None:
        deadline = time.monotonic() + DEADLINE
        while not links() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(random.Random(3).uniform(0, 0.4))
        with contextlib.suppress(psutil.Error, IndexError):
            links()[0].kill()

    killer = asyncio.create_task(asyncio.to_thread(kill_first))
    reporter = await joined(service)
    await killer
    reporter.started(STARTED)
    reporter.finished(RunOutcome("stopped", "stop_requested", 3, 1))
    await closed(reporter)

    job = await service.ended(reporter.job)
    assert job.state == job_pb2.JOB_STATE_CANCELLED

    assert len((await service.jobs.ListJobs(jobs_pb.ListJobsRequest())).jobs) == 1


async def test_the_environment_of_a_link_names_no_rank(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "OMPI_COMM_WORLD_RANK": "0", "PMIX_RANK": "0", "PMI_FD": "9", "MPI_LOCALNRANKS": "2",
        "PRTE_LAUNCHED": "1", "HYDI_CONTROL_FD": "9", "DBP_ATTEMPT_FOLDER": "/a",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    reporter = await joined(service)
    reporter.started(STARTED)

    environment = link().environ()

    assert given.keys() & environment.keys() == {"DBP_ATTEMPT_FOLDER"}
    assert link().nice() == min(19, os.nice(0) + 10)
    reporter.finished(SUCCEEDED)
    await closed(reporter)
    await service.ended(reporter.job)


async def test_a_stop_request_that_a_dead_link_did_not_pass_on_comes_by_the_next(
    service: Service,
) -> None:

    reporter = await joined(service)
    process = await started(service, reporter)
    process.send_signal(signal.SIGSTOP)
    await service.jobs.CancelJob(jobs_pb.CancelJobRequest(name=f"jobs/{reporter.job}"))

    process.kill()

    await training(reporter, lambda: reporter.poll() is Command.STOP)
    reporter.finished(RunOutcome("stopped", "stop_requested", 3, 1))
    await closed(reporter)
    assert (await service.ended(reporter.job)).state == job_pb2.JOB_STATE_CANCELLED


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
