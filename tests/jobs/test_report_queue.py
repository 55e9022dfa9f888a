"""Reports that wait for the metrics history."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dbp.job.state import ProgressReport
from dbp.job.step_window import StepWindow
from dbp.jobs import report_queue
from dbp.jobs.metric_tables import NumberedReport
from dbp.jobs.report_queue import add_all, bounded
from dbp.storage.metrics_file import open_metrics
from tests.jobs.stored_points import stored_points


def report(number: int, job_id: str = "a", *, epoch_end: bool = False) -> NumberedReport:
    """A report of one step, whose loss is its number."""
    loss = float(number)
    progress = ProgressReport(
        number, 99, 1, loss, {}, 1.0, None, 1.0, epoch_end,
        window=StepWindow(number, 1, loss, loss, loss),
    )  # fmt: skip
    return NumberedReport(job_id, 1, number, progress)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(open_metrics(tmp_path / "metrics.sqlite")) as opened:
        opened.execute("BEGIN")
        yield opened


def spans(connection: sqlite3.Connection, job_id: str) -> list[tuple[int, int]]:
    found = stored_points(connection, job_id)
    return [(point.first_step, point.step) for point in found]


@pytest.mark.parametrize("faulty", [{"epoch": 2**70}, {"observe_time": float("nan")}])
def test_a_report_that_cannot_be_inserted_holds_up_no_other(
    connection: sqlite3.Connection, caplog: pytest.LogCaptureFixture, faulty: dict[str, float]
) -> None:
    wrong = replace(report(1), progress=replace(report(1).progress, **faulty))  # type: ignore[arg-type]

    add_all(connection, [report(1, "b"), wrong, report(2), report(2, "b")])

    assert spans(connection, "b") == [(1, 1), (2, 2)]
    assert spans(connection, "a") == [(2, 2)]
    assert "job a: the report of step 1 is not in the metrics history" in caplog.text


def test_too_many_reports_are_merged_and_lose_no_step(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_queue, "MAX_WAITING", 20)
    waiting: list[NumberedReport] = []
    for number in range(1, 201):
        waiting = bounded([*waiting, report(number), report(number, "b")])
        assert len(waiting) <= 20

    add_all(connection, waiting)

    for job_id in ("a", "b"):
        found = stored_points(connection, job_id)
        assert [p.first_step for p in found] == [1, *(p.step + 1 for p in found[:-1])]
        assert (sum(p.counted for p in found), found[-1].step) == (200, 200)
        assert (found[0].minimum, found[-1].maximum) == (1.0, 200.0)


def test_ends_of_epochs_are_dropped_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(report_queue, "MAX_WAITING", 20)

    found = bounded([report(number, epoch_end=True) for number in range(1, 22)])

    assert [waiting.sequence for waiting in found] == list(range(12, 22))
    assert "11 reports, from one of job a on, are lost" in caplog.text
