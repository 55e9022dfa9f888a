"""Points of the metrics history: figures over a run of steps, merged as they age. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dbp.job.metric_series import SeriesKind
from dbp.job.state import ProgressReport
from dbp.job.step_window import StepWindow, joined_mean, least

LEARNING_RATE: Final = "learning_rate"
# Names of one job beyond these, and longer ones, are not kept.
MAX_NAMES: Final = 256
MAX_NAME_LENGTH: Final = 200


@dataclass(frozen=True)
class MetricPoint:
    """A metric over the steps from ``first_step`` to ``step``.

    Attributes:
        epoch: Epoch of the last step.
        time: Unix time of the report on the last step.
        counted: Number of values in the figures: those that are not finite are left out.
        mean: Mean of the values; NaN if there is none, as the two below.
        last: Newest value; it may be infinite, or NaN.
        retaken: Whether the steps were taken again, by a later attempt or after a roll-back:
            these are the figures of the last time.
    """

    step: int
    first_step: int
    epoch: int
    time: float
    counted: int
    mean: float
    minimum: float
    maximum: float
    last: float
    retaken: bool = False


def merged(older: MetricPoint, newer: MetricPoint) -> MetricPoint:
    """Return the point over the steps of both; the extremes stay."""
    counted = older.counted + newer.counted
    return MetricPoint(
        step=newer.step,
        first_step=older.first_step,
        epoch=newer.epoch,
        time=newer.time,
        counted=counted,
        mean=joined_mean(older.mean, older.counted, newer.mean, newer.counted),
        minimum=least(older.minimum, newer.minimum),
        maximum=-least(-older.maximum, -newer.maximum),
        last=newer.last,
        retaken=older.retaken or newer.retaken,
    )


def points_of(report: ProgressReport) -> Iterator[tuple[SeriesKind, str, MetricPoint]]:
    """Yield the points of a report: those of its steps, and at an epoch's end its metrics."""
    window = report.window
    if window is not None:
        yield SeriesKind.STEPS, "loss", _loss(report, window)
        rate = report.metrics.get(LEARNING_RATE)
        if rate is not None:
            yield SeriesKind.STEPS, LEARNING_RATE, _single(report, rate, window.first_step)
        speed = report.samples_per_second
        yield SeriesKind.STEPS, "samples_per_second", _single(report, speed, window.first_step)
    if report.epoch_end and report.step:
        for name, value in sorted(report.metrics.items()):  # a map of protobuf has no order
            if name != LEARNING_RATE and len(name) <= MAX_NAME_LENGTH:
                yield SeriesKind.EPOCHS, name, _single(report, value, report.step)


def _loss(report: ProgressReport, window: StepWindow) -> MetricPoint:
    return MetricPoint(
        report.step, window.first_step, report.epoch, report.observe_time, window.counted,
        window.loss_mean, window.loss_min, window.loss_max, report.loss,
    )  # fmt: skip


def _single(report: ProgressReport, value: float, first_step: int) -> MetricPoint:
    """Return the point of one value."""
    known = value if math.isfinite(value) else math.nan
    return MetricPoint(
        report.step, first_step, report.epoch, report.observe_time,
        int(math.isfinite(value)), known, known, known, value,
    )  # fmt: skip
