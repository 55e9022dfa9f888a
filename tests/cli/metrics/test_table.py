"""Metrics as a table, and as rows, without a service."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np
import pytest

from dbp.cli.metrics.rows import csv_text, parquet_bytes, records
from dbp.cli.metrics.table import tables
from dbp.client.metrics import JobMetrics, MetricSeries
from dbp.errors import MissingDependency


def series(
    name: str, steps: list[int], values: list[float], *, per_epoch: bool = False, **more: Any
) -> MetricSeries:
    firsts = [1, *(step + 1 for step in steps[:-1])]
    floats = np.array(values, np.float64)
    arrays: dict[str, Any] = {
        "step": np.array(steps), "first_step": np.array(steps if per_epoch else firsts),
        "epoch": np.ones(len(steps), np.int64), "time": np.zeros(len(steps)),
        "count": np.ones(len(steps), np.int64), "mean": floats, "minimum": floats - 1,
        "maximum": floats + 1, "last": floats, "retaken": np.zeros(len(steps), np.bool_),
    }  # fmt: skip
    return MetricSeries(name, per_epoch, **(arrays | more))


def history(*found: MetricSeries) -> JobMetrics:
    return JobMetrics("digits-x", {one.name: one for one in found})


def test_metrics_of_steps_share_rows_and_those_of_epochs_have_a_table() -> None:
    loss = series("loss", [1, 20], [2.0, 1.5], retaken=np.array([False, True]))
    speed = series("samples_per_second", [20], [12_345.6])
    accuracy = series("validation_accuracy", [20], [0.5], per_epoch=True)

    assert tables(history(loss, speed, accuracy)) == [
        "STEPS  EPOCH           TIME (UTC)  loss  least  greatest  samples_per_second",
        "1          1  1970-01-01 00:00:00     2      1         3                   -",
        "2-20*      1  1970-01-01 00:00:00   1.5    0.5       2.5              12,346",
        "",
        "EPOCH  STEP           TIME (UTC)  validation_accuracy",
        "1        20  1970-01-01 00:00:00                  0.5",
    ]


def test_without_points_there_is_no_table() -> None:
    assert tables(history()) == []
    assert tables(history(series("loss", [], [], first_step=np.array([], np.int64)))) == []


def test_numbers_that_are_not_finite_are_in_csv_as_nan_and_inf() -> None:
    loss = series("loss", [7], [math.nan], last=np.array([math.inf]))

    row = csv_text([history(loss)]).splitlines()[1]

    assert row == "digits-x,loss,1,7,1,0.0,1,nan,nan,nan,inf,False"
    (record,) = records([history(loss)])
    assert (record["job"], record["step"], record["last"]) == ("digits-x", 7, math.inf)


def test_parquet_without_pyarrow_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *given: Any) -> Any:
        if name.partition(".")[0] == "pyarrow" or name == "dbp.cli.metrics.parquet":
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return real(name, *given)

    monkeypatch.setattr(builtins, "__import__", absent)

    with pytest.raises(MissingDependency, match=r"pip install 'dbp\[parquet\]'"):
        parquet_bytes([history()])


def test_a_parquet_file_without_points_has_its_columns() -> None:
    import io

    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(parquet_bytes([history()])))

    assert (table.num_rows, table.num_columns) == (0, 12)
