"""The metrics history in its tables: thin with age, replaced where steps are taken again."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbp.job.metric_series import SeriesKind
from dbp.job.state import ProgressReport
from dbp.job.step_window import StepWindow
from dbp.jobs.metric_points import MAX_NAMES, MetricPoint, merged
from dbp.jobs.metric_query import series_of
from dbp.jobs.metric_tables import KEPT, MetricTables, NumberedReport
from dbp.storage.metrics_file import open_metrics
from tests.jobs.stored_points import stored_points

STEPS, EPOCHS = SeriesKind.STEPS, SeriesKind.EPOCHS


def window(first: int, last: int, loss: float = 0.5, rollbacks: int = 0) -> StepWindow:
    return StepWindow(first, last - first + 1, loss, loss - 0.25, loss + 0.25, rollbacks)


def report(
    sequence: int,
    first: int,
    last: int,
    *,
    attempt: int = 1,
    loss: float = 0.5,
    rollbacks: int = 0,
    epoch_end: bool = False,
) -> NumberedReport:
    metrics = {"learning_rate": 0.1, "validation_loss": loss}
    progress = ProgressReport(
        last, 9, 1, loss, metrics, 100.0, None, float(last), epoch_end,
        window=window(first, last, loss, rollbacks),
    )  # fmt: skip
    return NumberedReport("a", attempt, sequence, progress)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(open_metrics(tmp_path / "metrics.sqlite")) as opened:
        yield opened


@pytest.fixture
def tables(connection: sqlite3.Connection) -> MetricTables:
    return MetricTables(connection)


def spans(
    connection: sqlite3.Connection, name: str = "loss", kind: SeriesKind = STEPS
) -> list[tuple[int, int]]:
    return [
        (point.first_step, point.step) for point in stored_points(connection, "a", name, kind)
    ]


def test_a_point_has_mean_extremes_and_last_of_the_steps_since_the_one_before(
    tables: MetricTables,
    connection: sqlite3.Connection,
) -> None:
    tables.add(report(1, 1, 4))
    tables.add(report(2, 5, 9, loss=2.0))

    assert stored_points(connection, "a") == [
        MetricPoint(4, 1, 1, 4.0, 4, 0.5, 0.25, 0.75, 0.5),
        MetricPoint(9, 5, 1, 9.0, 5, 2.0, 1.75, 2.25, 2.0),
    ]
    assert stored_points(connection, "a", "learning_rate", STEPS)[0] == MetricPoint(
        4, 1, 1, 4.0, 1, 0.1, 0.1, 0.1, 0.1
    )
    assert [(series.name, series.kind) for series in series_of(connection, "a")] == [
        ("loss", STEPS), ("learning_rate", STEPS), ("samples_per_second", STEPS)
    ]  # fmt: skip


def test_a_report_that_is_sent_again_changes_nothing(
    tables: MetricTables, connection: sqlite3.Connection
) -> None:
    assert tables.add(report(1, 1, 4))
    assert tables.add(report(2, 5, 9))

    assert not tables.add(report(1, 1, 4, loss=7.0))
    assert not tables.add(report(2, 5, 9, loss=7.0))

    assert [point.last for point in stored_points(connection, "a")] == [0.5, 0.5]


def test_a_report_with_the_steps_of_one_before_it_replaces_that_one(
    tables: MetricTables,
    connection: sqlite3.Connection,
) -> None:
    tables.add(report(1, 1, 4))
    tables.add(report(2, 5, 9))

    tables.add(report(4, 5, 15))

    assert spans(connection) == [(1, 4), (5, 15)]
    assert not any(point.retaken for point in stored_points(connection, "a"))


@pytest.mark.parametrize(("attempt", "rollbacks"), [(1, 1), (2, 0)])
def test_steps_taken_again_replace_the_first_ones_and_say_so(
    tables: MetricTables, connection: sqlite3.Connection, attempt: int, rollbacks: int
) -> None:
    for number, last in enumerate((4, 8, 12), start=1):
        tables.add(report(number, last - 3, last, epoch_end=True))

    for number, first, last, end in ((4, 5, 10, False), (5, 11, 16, True), (6, 17, 20, False)):
        tables.add(
            report(number, first, last, attempt=attempt, rollbacks=rollbacks, epoch_end=end)
        )

    assert spans(connection) == [(1, 4), (5, 10), (11, 16), (17, 20)]
    found = stored_points(connection, "a")
    assert [point.retaken for point in found] == [False, True, True, False]
    assert spans(connection, "validation_loss", EPOCHS) == [(4, 4), (16, 16)]


def test_a_point_that_covers_earlier_steps_too_ends_before_those_taken_again(
    tables: MetricTables,
    connection: sqlite3.Connection,
) -> None:
    tables.add(report(1, 1, 10))

    tables.add(report(1, 6, 12, attempt=2))

    found = stored_points(connection, "a")
    assert [(point.first_step, point.step, point.retaken) for point in found] == [
        (1, 5, True), (6, 12, True)
    ]  # fmt: skip
    assert [point.counted for point in found] == [5, 7]


def test_reports_of_an_earlier_attempt_come_too_late(tables: MetricTables) -> None:
    tables.add(report(1, 1, 4, attempt=2))

    assert not tables.add(report(9, 5, 9, attempt=1))


def test_an_epoch_that_is_reported_again_keeps_one_point(
    tables: MetricTables, connection: sqlite3.Connection
) -> None:
    tables.add(report(1, 1, 4, epoch_end=True))
    closed = ProgressReport(4, 9, 1, 0.5, {"validation_loss": 0.125}, 1.0, None, 5.0, True)

    tables.add(NumberedReport("a", 2, 1, closed))

    assert [p.last for p in stored_points(connection, "a", "validation_loss", EPOCHS)] == [
        0.125
    ]
    assert spans(connection) == [(1, 4)]


def test_an_epoch_that_is_merged_and_reported_again_is_left(
    tables: MetricTables, connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KEPT, EPOCHS, 4)
    for number in range(1, 6):
        tables.add(report(number, 4 * number - 3, 4 * number, epoch_end=True))
    assert spans(connection, "validation_loss", EPOCHS)[0] == (4, 8)
    closed = ProgressReport(4, 9, 1, 0.5, {"validation_loss": 0.125}, 1.0, None, 5.0, True)

    tables.add(NumberedReport("a", 2, 1, closed))
    tables.add(report(2, 5, 8, attempt=2))

    assert spans(connection, "validation_loss", EPOCHS) == [(4, 4)]
    assert spans(connection) == [(1, 4), (5, 8)]


def test_losses_that_are_no_numbers_stay_out_of_the_figures(
    tables: MetricTables, connection: sqlite3.Connection
) -> None:
    empty = StepWindow(1, 0, math.nan, math.nan, math.nan)
    progress = ProgressReport(3, 9, 1, math.inf, {}, 1.0, None, 1.0, window=empty)
    tables.add(NumberedReport("a", 1, 1, progress))
    tables.add(report(2, 4, 5))

    first, second = stored_points(connection, "a")
    assert (first.counted, first.last) == (0, math.inf)
    assert math.isnan(first.mean)
    assert math.isnan(first.minimum)
    both = merged(first, second)
    assert (both.first_step, both.step, both.counted, both.mean) == (1, 5, 2, 0.5)


def test_points_thin_with_age_and_keep_mean_and_extremes(
    tables: MetricTables, connection: sqlite3.Connection
) -> None:
    count = 10_000
    connection.execute("BEGIN")
    for step in range(1, count + 1):
        tables.add(report(step, step, step, loss=float(step % 1_000)))
    connection.execute("COMMIT")

    found = stored_points(connection, "a")
    assert len(found) < 5 * KEPT[STEPS]
    assert [p.first_step for p in found] == [1, *(p.step + 1 for p in found[:-1])]
    assert all(p.first_step == p.step for p in found[-512:])
    widths = [p.step - p.first_step + 1 for p in found]
    assert widths == sorted(widths, reverse=True)
    assert sum(p.counted for p in found) == count
    assert min(p.minimum for p in found) == -0.25
    assert max(p.maximum for p in found) == 999.25
    mean = sum(p.mean * p.counted for p in found) / count
    assert math.isclose(mean, 499.5, rel_tol=1e-9)
    levels = connection.execute(
        "SELECT level, points FROM levels WHERE points AND series = 1 ORDER BY level"
    ).fetchall()
    counted = connection.execute(
        "SELECT level, count(*) FROM points WHERE series = 1 GROUP BY level ORDER BY level"
    ).fetchall()
    assert levels == counted


def test_a_range_of_steps(tables: MetricTables, connection: sqlite3.Connection) -> None:
    for number, last in enumerate((4, 8, 12, 16), start=1):
        tables.add(report(number, last - 3, last))

    found = stored_points(connection, "a", first_step=6, last_step=9)

    assert [(p.first_step, p.step) for p in found] == [(5, 8), (9, 12)]


def test_metrics_of_a_report_come_by_name_whatever_their_order(
    tables: MetricTables, connection: sqlite3.Connection
) -> None:
    metrics = {"validation_loss": 1.0, "training_loss": 1.0, "validation_accuracy": 1.0}
    progress = ProgressReport(1, 9, 1, 0.5, metrics, 1.0, None, 1.0, epoch_end=True)

    tables.add(NumberedReport("a", 1, 1, progress))

    assert [series.name for series in series_of(connection, "a")] == sorted(metrics)


def test_the_names_of_a_job_are_bounded(
    tables: MetricTables, connection: sqlite3.Connection
) -> None:
    metrics = {f"m{number}": 1.0 for number in range(2 * MAX_NAMES)} | {"n" * 1_000: 1.0}
    progress = ProgressReport(1, 9, 1, 0.5, metrics, 1.0, None, 1.0, epoch_end=True)

    tables.add(NumberedReport("a", 1, 1, progress))

    found = series_of(connection, "a")
    assert len(found) == MAX_NAMES
    assert max(len(series.name) for series in found) < 10


def test_a_forgotten_job_leaves_no_rows(
    tables: MetricTables, connection: sqlite3.Connection
) -> None:
    tables.add(report(1, 1, 4, epoch_end=True))
    other = report(1, 1, 4)
    tables.add(NumberedReport("b", 1, 1, other.progress))

    tables.forget("a")

    assert tables.jobs() == ["b"]
    for table in ("points", "levels"):
        (left,) = connection.execute(
            f"SELECT count(*) FROM {table} WHERE series NOT IN (SELECT id FROM series)"
        ).fetchone()
        assert not left
