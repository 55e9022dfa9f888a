"""The points of metrics as rows, for CSV, JSON lines and Parquet: one row a point."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from dbp.client.metrics import JobMetrics, MetricSeries
from dbp.errors import MissingDependency
from dbp.json_value import JsonObject

Row: TypeAlias = tuple[str | int | float | bool, ...]

# Names of the columns; `time` is in Unix seconds.
COLUMNS: Final = (
    "job", "metric", "first_step", "step", "epoch", "time", "count", "mean", "minimum",
    "maximum", "last", "retaken",
)  # fmt: skip
_NUMBERS: Final = COLUMNS[2:]


def rows_of(histories: Iterable[JobMetrics]) -> Iterator[Row]:
    """Yield the points of all metrics in the order of ``COLUMNS``, by job and metric."""
    for history in histories:
        for name, series in history.items():
            for numbers in zip(*_columns(series), strict=True):
                yield (history.job_id, name, *numbers)


def csv_text(histories: Iterable[JobMetrics]) -> str:
    """Return the points as CSV with a header; numbers that are not finite are nan and inf."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows_of(histories))
    return file.getvalue()


def records(histories: Iterable[JobMetrics]) -> Iterator[JsonObject]:
    """Yield each point as a JSON object."""
    for row in rows_of(histories):
        yield dict(zip(COLUMNS, row, strict=True))


def series_content(histories: Iterable[JobMetrics]) -> list[JsonObject]:
    """Return each metric as a JSON object with a list for each column."""
    found: list[JsonObject] = []
    for history in histories:
        for name, series in history.items():
            columns = dict(zip(_NUMBERS, _columns(series), strict=True))
            per_epoch = series.per_epoch
            found.append(
                {"job": history.job_id, "metric": name, "per_epoch": per_epoch, **columns}
            )
    return found


def parquet_bytes(histories: Sequence[JobMetrics]) -> bytes:
    """Return the points as a Parquet file; MissingDependency without pyarrow."""
    try:
        from dbp.cli.metrics.parquet import written
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "pyarrow":
            raise
        raise MissingDependency(
            "Parquet needs the package pyarrow; install it with: pip install 'dbp[parquet]'; "
            "or use --output csv"
        ) from error
    return written(COLUMNS, list(rows_of(histories)))


def _columns(series: MetricSeries) -> list[list[int | float | bool]]:
    """Return the columns after job and metric, as Python's numbers."""
    return [getattr(series, name).tolist() for name in _NUMBERS]
