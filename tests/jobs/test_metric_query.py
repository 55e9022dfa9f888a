"""The points of a range are read, and merged in SQL to the number asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbp.job.metric_series import PointColumns, SeriesKind, SeriesName
from dbp.job.state import ProgressReport
from dbp.job.step_window import StepWindow
from dbp.jobs.metric_points import MetricPoint, merged
from dbp.jobs.metric_query import PointRange, read_points, series_of
from dbp.jobs.metric_tables import MetricTables, NumberedReport
from dbp.storage.metrics_file import open_metrics
from tests.jobs.stored_points import as_points, stored_points

LOSS = SeriesName("a", "loss", SeriesKind.STEPS)
EVERY = PointRange(points=10_000)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(open_metrics(tmp_path / "metrics.sqlite")) as opened:
        yield opened


def record(
    connection: sqlite3.Connection,
    losses: list[float],
    *,
    job: str = "a",
    first: int = 1,
    attempt: int = 1,
) -> None:
    """A report on every step, one second apart."""
    tables = MetricTables(connection)
    connection.execute("BEGIN")
    for step, loss in enumerate(losses, start=first):
        counted = int(math.isfinite(loss))
        known = loss if counted else math.nan
        progress = ProgressReport(
            step, 9, 1 + step // 100, loss, {"validation_loss": 0.5}, 1.0, None, float(step),
            epoch_end=step % 100 == 0, window=StepWindow(step, counted, known, known, known),
        )  # fmt: skip
        tables.add(NumberedReport(job, attempt, step, progress))
    connection.execute("COMMIT")


def read(connection: sqlite3.Connection, wanted: PointRange = EVERY) -> list[MetricPoint]:
    return as_points(read_points(connection, LOSS, wanted))


def test_columns_are_the_fields_of_a_point() -> None:
    names = [field.name for field in dataclasses.fields(PointColumns)]

    assert names == [field.name for field in dataclasses.fields(MetricPoint)]


def test_points_that_fit_are_returned_as_they_are(connection: sqlite3.Connection) -> None:
    record(connection, [3.0, 2.0, 1.0])

    assert read(connection, PointRange(points=3)) == stored_points(connection, "a")


@pytest.mark.parametrize("points", [1, 2, 7, 64, 999])
def test_points_are_merged_over_equal_shares_of_the_steps(
    connection: sqlite3.Connection, points: int
) -> None:
    rng = random.Random(points)
    record(connection, [rng.gauss(0.0, 1.0) for _ in range(3_000)])
    stored = read(connection)
    width = (stored[-1].step - stored[0].step + 1) / points

    found = read(connection, PointRange(points=points))

    shares = itertools.groupby(stored, lambda p: int((p.step - stored[0].step) / width))
    expected = []
    for _, share in shares:
        first, *others = share
        for newer in others:
            first = merged(first, newer)
        expected.append(first)
    assert 1 <= len(found) <= points
    assert [dataclasses.replace(p, mean=0.0) for p in found] == [
        dataclasses.replace(p, mean=0.0) for p in expected
    ]
    assert [p.mean for p in found] == pytest.approx([p.mean for p in expected], rel=1e-12)


def test_merged_points_cover_every_step_once_and_keep_each_extreme(
    connection: sqlite3.Connection,
) -> None:
    losses = [1.0] * 2_500
    losses[1_234], losses[1_717] = 99.0, -99.0
    record(connection, losses)

    found = read(connection, PointRange(points=20))

    steps = [step for p in found for step in range(p.first_step, p.step + 1)]
    assert steps == list(range(1, 2_501))
    (high,) = [p for p in found if p.maximum == 99.0]
    (low,) = [p for p in found if p.minimum == -99.0]
    assert high.first_step <= 1_235 <= high.step
    assert low.first_step <= 1_718 <= low.step
    assert all(p.mean == 1.0 for p in found if p not in (high, low))


def test_values_that_are_not_finite_are_in_no_mean(connection: sqlite3.Connection) -> None:
    record(connection, [math.nan, math.inf, 1.0, 3.0, math.nan, math.inf])

    first, second, third = read(connection, PointRange(points=3))

    assert (first.counted, first.last) == (0, math.inf)
    assert all(math.isnan(v) for v in (first.mean, first.minimum, first.maximum))
    assert (second.counted, second.mean, second.last) == (2, 2.0, 3.0)
    assert (third.counted, third.last) == (0, math.inf)
    (all_of_them,) = read(connection, PointRange(points=1))
    assert (all_of_them.counted, all_of_them.mean) == (2, 2.0)


@pytest.mark.parametrize("value", [1.7e308, 1e-300, 0.1])
def test_a_mean_is_within_the_extremes(connection: sqlite3.Connection, value: float) -> None:
    record(connection, [value] * 1_000)

    (point,) = read(connection, PointRange(points=1))

    assert point.minimum == point.mean == point.maximum == value


def test_the_sum_of_large_values_does_not_overflow(connection: sqlite3.Connection) -> None:
    record(connection, [1.5e308, 0.5e308] * 500)

    (point,) = read(connection, PointRange(points=1))

    assert point.mean == pytest.approx(1e308, rel=1e-12)


def test_a_merged_point_says_that_one_of_its_steps_was_taken_again(
    connection: sqlite3.Connection,
) -> None:
    record(connection, [1.0] * 50)
    record(connection, [2.0] * 50, first=41, attempt=2)

    found = read(connection, PointRange(points=6))  # two of them have some of these steps

    assert [p.retaken for p in found] == [False, False, True, True, False, False]


def test_a_range_of_steps_has_the_points_of_any_step_in_it(
    connection: sqlite3.Connection,
) -> None:
    record(connection, [1.0] * 2_000)
    first, second = read(connection)[:2]
    assert first.step > first.first_step

    def spans(first_step: int, last_step: int) -> list[tuple[int, int]]:
        found = read(connection, PointRange(first_step, last_step, points=99))
        return [(p.first_step, p.step) for p in found]

    assert spans(first.step, first.step) == [(first.first_step, first.step)]
    assert spans(first.step, second.first_step) == [
        (first.first_step, first.step), (second.first_step, second.step)
    ]  # fmt: skip
    assert spans(2_000, 3_000) == [(2_000, 2_000)]
    assert spans(2_001, 3_000) == []


def test_a_range_of_times_includes_its_ends(connection: sqlite3.Connection) -> None:
    record(connection, [1.0] * 9)

    found = read(connection, PointRange(start_time=3.0, end_time=6.0))

    assert [p.step for p in found] == [3, 4, 5, 6]


def test_a_job_has_its_own_series_in_the_order_in_which_they_came(
    connection: sqlite3.Connection,
) -> None:
    record(connection, [1.0] * 100)
    record(connection, [5.0], job="b")

    assert [(s.name, s.kind) for s in series_of(connection, "a")] == [
        ("loss", SeriesKind.STEPS),
        ("samples_per_second", SeriesKind.STEPS),
        ("validation_loss", SeriesKind.EPOCHS),
    ]
    other = as_points(read_points(connection, dataclasses.replace(LOSS, job_id="b"), EVERY))
    assert [(p.step, p.last) for p in other] == [(1, 5.0)]
    nothing = read_points(connection, dataclasses.replace(LOSS, job_id="c"), EVERY)
    assert nothing == PointColumns()
