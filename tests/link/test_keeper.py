"""Links that stop, cannot start or keep dying: replaced with growing pauses, and in time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from pathlib import Path

import pytest

from dbp.link.child import LinkChild
from dbp.link.keeper import PROBES
from dbp.link.reporter import BY_HAND_PATIENCE_SECONDS, Reporter
from dbp.train.report.sink import Command
from dbp.v1 import job_pb2
from tests.link.reporting import (
    STARTED,
    SUCCEEDED,
    closed,
    filled,
    joined,
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
from tests.service.setups import Service, document, serving, until

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("no_zombies")]


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
        for step in range(1, 200):  # waiting messages are bounded, and the run continues
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
        stopped = await started(service, reporter)

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
    old = await started(service, reporter)
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
    assert stored_steps(tmp_path / "state", reporter.job) == [
        20,
        30,
        40,
        50,
    ]  # the newest four are kept


async def test_a_link_stopped_together_with_rank_0_is_not_replaced(service: Service) -> None:
    reporter = await asyncio.to_thread(
        Reporter.join, service.address, document(retry={"stall_seconds": 2.0}), 1
    )
    process = await started(service, reporter)
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
