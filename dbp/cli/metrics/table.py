"""The metrics of a job as tables: one of steps, one of epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from dbp.cli.screen.output import number_text, time_text
from dbp.client.metrics import JobMetrics, MetricSeries
from dbp.text_table import aligned

# Heading of a column, and its text for the point at an index of its series.
_Column: TypeAlias = tuple[str, MetricSeries, Callable[[int], str]]

RETAKEN: Final = "*"


def tables(history: JobMetrics) -> list[str]:
    """Return the lines of the tables of a job; none without points."""
    steps = [series for series in history.values() if len(series) and not series.per_epoch]
    epochs = [series for series in history.values() if len(series) and series.per_epoch]
    lines = _lines(steps, ("STEPS", "EPOCH", "TIME (UTC)"), _step_cells, _means)
    if steps and epochs:
        lines.append("")
    return lines + _lines(epochs, ("EPOCH", "STEP", "TIME (UTC)"), _epoch_cells, _lasts)


def is_retaken(history: JobMetrics) -> bool:
    """Return whether a point of a job has steps that were taken again."""
    return any(bool(series.retaken.any()) for series in history.values())


def _lines(
    chosen: Sequence[MetricSeries],
    heading: tuple[str, ...],
    cells: Callable[[MetricSeries, int], tuple[str, ...]],
    columns_of: Callable[[MetricSeries], list[_Column]],
) -> list[str]:
    """Return a table with a row for each last step of a point."""
    if not chosen:
        return []
    columns = [column for series in chosen for column in columns_of(series)]
    places = {id(one): {int(s): at for at, s in enumerate(one.step)} for one in chosen}
    first = {s: (one, at) for one in reversed(chosen) for s, at in places[id(one)].items()}
    rows: list[Sequence[str]] = [(*heading, *(name for name, _, _ in columns))]
    for step in sorted(first):
        texts = [
            text(places[id(one)][step]) if step in places[id(one)] else "-"
            for _, one, text in columns
        ]
        rows.append((*cells(*first[step]), *texts))
    return aligned(rows)


def _step_cells(series: MetricSeries, at: int) -> tuple[str, ...]:
    first, last = int(series.first_step[at]), int(series.step[at])
    span = f"{first:,}-{last:,}" if first < last else f"{last:,}"
    mark = RETAKEN if series.retaken[at] else ""
    return f"{span}{mark}", f"{series.epoch[at]:,}", time_text(float(series.time[at]))


def _epoch_cells(series: MetricSeries, at: int) -> tuple[str, ...]:
    mark = RETAKEN if series.retaken[at] else ""
    step = f"{series.step[at]:,}"
    return f"{series.epoch[at]:,}{mark}", step, time_text(float(series.time[at]))


def _means(series: MetricSeries) -> list[_Column]:
    """Return the column of the means; of the loss those of its extremes, too."""
    found: list[_Column] = [(series.name, series, lambda at: number_text(series.mean[at]))]
    if series.name == "loss":
        found.append(("least", series, lambda at: number_text(series.minimum[at])))
        found.append(("greatest", series, lambda at: number_text(series.maximum[at])))
    return found


def _lasts(series: MetricSeries) -> list[_Column]:
    return [(series.name, series, lambda at: number_text(series.last[at]))]
