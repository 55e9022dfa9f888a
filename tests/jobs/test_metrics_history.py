"""Reports of runs enter the metrics history in batches, and are acknowledged after them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dbp.errors import DiskFull, Unavailable
from dbp.job.metric_series import SeriesKind, SeriesName
from dbp.job.state import ProgressReport, RunOutcome
from dbp.job.step_window import StepWindow
from dbp.jobs import metrics_history
from dbp.jobs.metric_query import PointRange
from dbp.jobs.metric_tables import MetricTables
from dbp.jobs.metrics_history import BATCH_SECONDS, RETRY_SECONDS, MetricsHistory
from dbp.storage.metrics_file import MetricsFile
from tests.jobs.fakes import FakeClock, Plane, control_plane, settle, spec
from tests.jobs.runs import attach, finish

WHO = "a connection"
SUCCEEDED = RunOutcome("succeeded", "epochs", 9)


def report(first: int, last: int) -> ProgressReport:
    loss = 1.0 / last
    window = StepWindow(first, last - first + 1, loss, loss, loss)
    return ProgressReport(last, 99, 1, loss, {}, 1.0, None, 1.0, window=window)


async def steps(history: MetricsHistory, job_id: str) -> list[int]:
    loss = SeriesName(job_id, "loss", SeriesKind.STEPS)
    return list((await history.points(loss, PointRange())).step)


class Acknowledged(list[int]):
    def at(self, number: int) -> Callable[[], None]:
        return lambda: self.append(number)


def full(*_: object) -> Any:
    raise DiskFull("the disk is full")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def history(tmp_path: Path, clock: FakeClock) -> MetricsHistory:
    return MetricsHistory(MetricsFile(tmp_path / "metrics.sqlite"), clock)


async def test_a_report_is_acknowledged_after_its_batch(
    history: MetricsHistory, clock: FakeClock
) -> None:
    done = Acknowledged()
    history.add("a", 1, 1, report(1, 4))
    history.when_stored(WHO, done.at(1))
    assert done == []
    await settle()
    assert done == [1]

    history.add("a", 1, 2, report(5, 8))
    history.when_stored(WHO, done.at(2))
    history.add("a", 1, 3, report(9, 12))
    history.when_stored(WHO, done.at(3))
    await settle()
    assert (done, await steps(history, "a")) == ([1], [4])
    await clock.advance(BATCH_SECONDS)
    await settle()

    assert done == [1, 3]  # the newest acknowledges all before it
    assert await steps(history, "a") == [4, 8, 12]
    history.when_stored(WHO, done.at(4))
    assert done == [1, 3, 4]
    await history.close()


async def test_reports_wait_for_a_full_disk_and_are_not_acknowledged(
    history: MetricsHistory, clock: FakeClock, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    done = Acknowledged()
    with monkeypatch.context() as patch:
        patch.setattr(MetricTables, "add", full)
        for number in (1, 2, 3):
            history.add("a", 1, number, report(number, number))
            history.when_stored(WHO, done.at(number))
            await settle()
            await clock.advance(RETRY_SECONDS)
            await settle()
    assert done == []
    assert caplog.text.count("the disk is full") == 1

    await clock.advance(RETRY_SECONDS)
    await settle()

    assert done == [3]
    assert await steps(history, "a") == [1, 2, 3]
    await history.close()


async def test_a_close_writes_what_waits(history: MetricsHistory, tmp_path: Path) -> None:
    for number in range(1, 5):
        history.add("a", 1, number, report(number, number))
        await settle()

    await history.close()

    later = MetricsHistory(MetricsFile(tmp_path / "metrics.sqlite"), FakeClock())
    assert await steps(later, "a") == [1, 2, 3, 4]
    await later.close()


async def running(plane: Plane) -> str:
    job = await plane.manager.create(spec(), workers=1)
    await settle()
    await attach(plane, job)
    return job.id


async def test_an_outcome_makes_the_reports_before_it_durable(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job_id = await running(plane)
        for number in range(1, 4):
            await plane.manager.reports.progress(job_id, 1, report(number, number), number)
        await plane.manager.reports.outcome(job_id, 1, SUCCEEDED)

        assert await steps(plane.manager.history, job_id) == [1, 2, 3]


async def test_an_outcome_does_not_wait_for_a_history_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job_id = await running(plane)
        monkeypatch.setattr(MetricTables, "add", full)
        await plane.manager.reports.progress(job_id, 1, report(1, 1), 1)

        await plane.manager.reports.outcome(job_id, 1, SUCCEEDED)

        assert await plane.store.outcome(job_id, 1) == SUCCEEDED
        monkeypatch.undo()


async def test_an_outcome_does_not_wait_for_a_file_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_history, "OUTCOME_SECONDS", 0.05)
    answers, add = threading.Event(), MetricTables.add

    def stuck(self: MetricTables, entry: Any) -> bool:
        answers.wait(60.0)
        return add(self, entry)

    async with control_plane(tmp_path / "s") as plane:
        job_id = await running(plane)
        monkeypatch.setattr(MetricTables, "add", stuck)
        try:
            await plane.manager.reports.progress(job_id, 1, report(1, 1), 1)
            begin = time.monotonic()
            await plane.manager.reports.outcome(job_id, 1, SUCCEEDED)
            assert time.monotonic() - begin < 30.0
            assert await plane.store.outcome(job_id, 1) == SUCCEEDED
        finally:
            answers.set()
        await plane.manager.history.flush()

        assert await steps(plane.manager.history, job_id) == [1]


@pytest.mark.parametrize("error", [DiskFull("the disk is full"), RuntimeError("unforeseen")])
async def test_a_batch_that_an_outcome_could_not_write_is_written_later(
    history: MetricsHistory, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    done = Acknowledged()
    with monkeypatch.context() as patch:
        patch.setattr(history.file, "write", lambda _: refused(error))
        history.add("a", 1, 1, report(1, 1))
        history.when_stored(WHO, done.at(1))
        await history.flush()  # before the task of the batches has begun
        await settle()
    assert done == []

    await clock.advance(RETRY_SECONDS)
    await settle()

    assert done == [1]
    assert await steps(history, "a") == [1]
    await history.close()


async def refused(error: Exception) -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    raise error


async def test_a_report_after_the_close_is_refused_and_sent_to_the_next_service(
    history: MetricsHistory,
) -> None:
    await history.close()

    with pytest.raises(Unavailable, match="shutting down"):
        history.add("a", 1, 1, report(1, 1))


async def test_reports_sent_again_after_a_restart_change_nothing(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job_id = await running(plane)
        for number in range(1, 4):
            await plane.manager.reports.progress(job_id, 1, report(number, number), number)
    async with control_plane(tmp_path / "s") as plane:
        for number in range(1, 6):
            await plane.manager.reports.progress(job_id, 1, report(number, number), number)
        await plane.manager.history.flush()

        assert await steps(plane.manager.history, job_id) == [1, 2, 3, 4, 5]


async def ended(plane: Plane) -> str:
    job_id = await running(plane)
    await plane.manager.reports.progress(job_id, 1, report(1, 1), 1)
    finish(plane, job_id)
    await settle()
    return job_id


async def test_the_history_of_a_deleted_job_is_deleted(tmp_path: Path) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job_id = await ended(plane)
        assert await steps(plane.manager.history, job_id) == [1]

        await plane.manager.lifecycle.delete(job_id)
        await plane.manager.history.flush()

        assert await plane.manager.history.jobs() == []


async def test_a_start_removes_histories_that_a_kill_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_plane(tmp_path / "s") as plane:
        job_id = await ended(plane)
        with monkeypatch.context() as patch:
            patch.setattr(MetricsHistory, "forget", lambda *_: None)
            await plane.manager.lifecycle.delete(job_id)
        kept = await running(plane)
        await plane.manager.reports.progress(kept, 1, report(1, 1), 1)
    async with control_plane(tmp_path / "s") as plane:
        await plane.clock.advance(60.0)
        await settle()
        await plane.manager.history.flush()

        assert await plane.manager.history.jobs() == [kept]


async def test_writing_does_not_block_the_event_loop(
    history: MetricsHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    add = MetricTables.add

    def seen(self: MetricTables, entry: Any) -> bool:
        threads.append(threading.current_thread())
        return add(self, entry)

    monkeypatch.setattr(MetricTables, "add", seen)
    history.add("a", 1, 1, report(1, 1))
    await asyncio.sleep(0)
    await history.close()

    assert threads
    assert threading.current_thread() not in threads


@pytest.mark.parametrize(
    "window",
    [
        StepWindow(6, 1, 0.5, 0.5, 0.5),
        StepWindow(0, 1, 0.5, 0.5, 0.5),
        StepWindow(3, 4, 0.5, 0.5, 0.5),
        StepWindow(3, -1, 0.5, 0.5, 0.5),
    ],
)
async def test_steps_that_cannot_be_those_of_a_report_are_left_out(
    history: MetricsHistory, caplog: pytest.LogCaptureFixture, window: StepWindow
) -> None:
    history.add("a", 1, 1, report(1, 2))
    history.add("a", 1, 2, replace(report(3, 5), window=window))
    history.add("a", 1, 3, report(6, 8))
    await history.flush()

    assert await steps(history, "a") == [2, 8]
    assert "a report of step 5" in caplog.text
    await history.close()
