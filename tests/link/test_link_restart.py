"""Links that die, stop or cannot start, of a real reporter against a real service."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from dbp.job.state import RunOutcome
from dbp.launch.launcher import Exit
from dbp.link.child import LinkChild
from dbp.link.keeper import PROBES
from dbp.link.reporter import BY_HAND_PATIENCE_SECONDS, Reporter
from dbp.train.report.sink import Command
from dbp.v1 import job_pb2
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
    vector,
    versions,
)
from tests.service.setups import Service, document, serving, until

pytestmark = pytest.mark.processes


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path / "state") as service:
        yield service


@pytest.fixture(autouse=True)
def no_zombies() -> Iterator[None]:
    """No dead link stays a zombie once its reporter is closed."""
    yield
    found = [p for p in psutil.Process().children() if p.status() == psutil.STATUS_ZOMBIE]
    assert not found


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What rank 0 has logged."""
    return [record.getMessage() for record in caplog.records if record.name == "dbp.rpc"]


async def training(reporter: Reporter, condition: Callable[[], object]) -> None:
    """Poll as the training loop does until the condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            reporter.poll()
            await asyncio.sleep(0.002)


async def training_until_published(service: Service, reporter: Reporter, step: int) -> None:
    found = asyncio.create_task(published(service, reporter.job, step))
    await training(reporter, found.done)
    await found


async def filled(reporter: Reporter, step: int) -> None:
    """Publish a step as soon as a slot is free."""
    await training(reporter, lambda: reporter.snapshot(snapshot(step)))


@pytest.mark.parametrize("by_hand", [False, True], ids=["launched", "by hand"])
async def test_a_killed_link_is_replaced_and_nothing_is_lost(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture, by_hand: bool
) -> None:
    make = joined(service) if by_hand else launched(service, tmp_path / "state")
    reporter = await make
    reporter.started(STARTED)
    await filled(reporter, 10)
    await training_until_published(service, reporter, 10)
    old = link()

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
    kept = versions(tmp_path / "state", reporter.job)
    assert sorted(kept) == [10, 60, 100]
    for step, content in kept.items():
        np.testing.assert_array_equal(content, vector(step))
    assert messages(caplog) == [
        "the link to the service was killed by SIGKILL; starting another"
    ]


async def test_what_a_dead_link_held_is_delivered_by_the_next(
    service: Service, tmp_path: Path
) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    await filled(reporter, 10)
    await training_until_published(service, reporter, 10)
    held = link()
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
    kept = versions(tmp_path / "state", reporter.job)
    assert sorted(kept) == [10, 20, 30]
    for step, content in kept.items():
        np.testing.assert_array_equal(content, vector(step))


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
    kept = versions(tmp_path / "state", reporter.job)
    assert max(kept) == step + 1
    for at, content in kept.items():
        np.testing.assert_array_equal(content, vector(at))


async def test_a_link_killed_at_the_very_end_loses_no_outcome(service: Service) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    await filled(reporter, 10)
    await training_until_published(service, reporter, 10)
    process = link()
    process.suspend()
    reporter.snapshot(snapshot(100, final=True))
    reporter.finished(SUCCEEDED)
    threading.Timer(0.1, process.kill).start()

    assert await closed(reporter) < BY_HAND_PATIENCE_SECONDS

    job = await service.ended(reporter.job)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert job.latest_parameters.final


async def test_closing_ends_in_time_though_every_link_dies(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    monkeypatch.setattr("dbp.link.keeper.LinkChild", Dying)
    link().kill()
    reporter.finished(SUCCEEDED)

    assert 1.0 <= await closed(reporter, timeout=1.0) < BY_HAND_PATIENCE_SECONDS / 2

    assert not links()


def Dying(memory_fd: int) -> object:  # noqa: N802 (in place of a class)
    """A link that ends at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/false")
        return LinkChild(memory_fd)


async def test_a_link_that_keeps_dying_neither_delays_training_nor_fills_the_log(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbp.link.keeper.FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("dbp.link.keeper.LAST_PAUSE_SECONDS", 0.02)
    reporter = await joined(service)
    reporter.started(STARTED)
    monkeypatch.setattr("dbp.link.keeper.LinkChild", Dying)
    link().kill()
    with caplog.at_level(logging.WARNING, "dbp.rpc"):
        await training(reporter, lambda: reporter._keeper.ends > 16)
        for step in range(1, 200):  # what a run sends meanwhile is bounded, and it goes on
            reporter.progress(progress(step, epoch_end=True))
            reporter.snapshot(snapshot(step))
            assert reporter.poll() is Command.NONE
        monkeypatch.undo()
        reporter.finished(SUCCEEDED)
        await closed(reporter)

    assert messages(caplog)[:5] == [
        "the link to the service was killed by SIGKILL; starting another",
        "the link to the service ended with code 1; starting another",
        "the link to the service ended with code 1 for the 4th time; starting another",
        "the link to the service ended with code 1 for the 8th time; starting another",
        "the link to the service ended with code 1 for the 16th time; starting another",
    ]
    assert len(messages(caplog)) <= 7
    # When links live again, all arrives.
    job = await service.ended(reporter.job)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert job.progress.step == 199


async def test_pauses_before_links_that_keep_dying_grow(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    monkeypatch.setattr("dbp.link.keeper.LinkChild", Dying)
    link().kill()

    began = time.monotonic()
    await training(reporter, lambda: time.monotonic() > began + 1.5)

    assert reporter._keeper.ends <= 6  # 0.05 s, 0.1, 0.2, 0.4, 0.8
    await closed(reporter, timeout=0.0)


async def test_a_link_that_cannot_be_started_is_tried_again(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = await joined(service)
    reporter.started(STARTED)
    link().kill()
    with (
        caplog.at_level(logging.WARNING, "dbp.rpc"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "executable", "/no/such/python")
        await training(reporter, lambda: reporter._keeper.ends > 2)
    reporter.finished(SUCCEEDED)
    await closed(reporter)

    assert messages(caplog)[0] == (
        "the link to the service cannot be started: No such file or directory; trying again"
    )
    assert (await service.ended(reporter.job)).state == job_pb2.JOB_STATE_SUCCEEDED


async def test_a_stopped_link_is_killed_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path / "state") as service:
        reporter = await asyncio.to_thread(
            Reporter.join, service.address, document(retry={"stall_seconds": 0.001}), 1
        )
        reporter.started(STARTED)
        await filled(reporter, 10)
        await training_until_published(service, reporter, 10)
        stopped = link()

        with caplog.at_level(logging.WARNING, "dbp.rpc"):
            stopped.suspend()
            began = time.monotonic()
            reporter.snapshot(snapshot(20))
            await training_until_published(service, reporter, 20)
        assert time.monotonic() - began >= 1.5
        with contextlib.suppress(ProcessLookupError):
            stopped.resume()
        await until(lambda: not stopped.is_running() or stopped.status() == "zombie")
        reporter.finished(SUCCEEDED)
        await closed(reporter)

        job = await service.ended(reporter.job)
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert messages(caplog)[0] == (
        "the link to the service has not read its messages for 2 s; starting another"
    )


async def test_an_old_link_that_continues_changes_nothing_and_ends(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if SIGKILL had not reached it."""

    def spare(child: LinkChild) -> None:
        child.close_input()
        child._output.close()
        child.ended = True

    reporter = await asyncio.to_thread(
        Reporter.join, service.address, document(retry={"stall_seconds": 0.001}), 1
    )
    reporter.started(STARTED)
    await filled(reporter, 10)
    await training_until_published(service, reporter, 10)
    old = link()
    with monkeypatch.context() as patch:
        patch.setattr(LinkChild, "kill", spare)
        old.suspend()
        reporter.progress(progress(20, epoch_end=True))
        assert reporter.snapshot(snapshot(20))
        await training_until_published(service, reporter, 20)
    for step in (30, 40):  # the slot of step 20, too, has other parameters now
        await filled(reporter, step)
        await training_until_published(service, reporter, step)

    old.resume()
    await training(reporter, lambda: old not in links())
    await filled(reporter, 50)
    await training_until_published(service, reporter, 50)
    reporter.finished(SUCCEEDED)
    await closed(reporter)

    assert (await service.ended(reporter.job)).state == job_pb2.JOB_STATE_SUCCEEDED
    kept = versions(tmp_path / "state", reporter.job)
    assert sorted(kept) == [20, 30, 40, 50]  # the newest four are kept
    for step, content in kept.items():
        np.testing.assert_array_equal(content, vector(step))


async def test_a_link_stopped_together_with_rank_0_is_not_replaced(service: Service) -> None:
    reporter = await asyncio.to_thread(
        Reporter.join, service.address, document(retry={"stall_seconds": 2.0}), 1
    )
    reporter.started(STARTED)
    await filled(reporter, 10)
    await training_until_published(service, reporter, 10)
    process = link()
    reporter._keeper._next_probe = 0.0
    process.suspend()
    reporter.poll()  # it asks; then rank 0 stops, too, for longer than stall_seconds
    await asyncio.sleep(2.5)
    reporter.poll()
    process.resume()

    began = time.monotonic()
    await training(reporter, lambda: time.monotonic() > began + 4.0 / PROBES)

    assert link().pid == process.pid
    reporter.finished(SUCCEEDED)
    await closed(reporter)
    await service.ended(reporter.job)


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
    from dbp.v1 import job_service_pb2 as jobs_pb

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
    from dbp.v1 import job_service_pb2 as jobs_pb

    reporter = await joined(service)
    reporter.started(STARTED)
    await filled(reporter, 10)
    await training_until_published(service, reporter, 10)
    process = link()
    process.send_signal(signal.SIGSTOP)
    await service.jobs.CancelJob(jobs_pb.CancelJobRequest(name=f"jobs/{reporter.job}"))

    process.kill()

    await training(reporter, lambda: reporter.poll() is Command.STOP)
    reporter.finished(RunOutcome("stopped", "stop_requested", 3, 1))
    await closed(reporter)
    assert (await service.ended(reporter.job)).state == job_pb2.JOB_STATE_CANCELLED
