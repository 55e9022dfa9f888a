"""Curves of metrics: chosen by name from the figures of one or several runs.

A ``CurveSource`` holds the figures of one run, wherever they are from; no file is read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from dbp.errors import InvalidInput, alternatives

Axis = Literal["epoch", "step", "time"]

AXES: Final[tuple[Axis, ...]] = ("epoch", "step", "time")
PREFIXES: Final = ("training_", "validation_")
_NO_METRICS: Final = frozenset({*AXES, "workers"})
# Seconds of a unit of time, the largest first; a unit is used from two of it on.
_UNITS: Final = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))


@dataclass(frozen=True)
class CurveSource:
    """The figures of one run: a row for each epoch, with ``step``, ``epoch``, ``time``, ....

    ``name`` names the run in legends and errors. Rows have finite numbers only, and not every
    row has every metric.
    """

    name: str
    rows: Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Curve:
    """The points of one metric of one run."""

    source: str
    metric: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Plot:
    """Curves over one another, and the names of the two axes."""

    curves: tuple[Curve, ...]
    x_label: str
    y_label: str
    log: bool

    def label(self, curve: Curve) -> str:
        """Return the name of a curve in the legend: with its run where there are several."""
        several = len({other.source for other in self.curves}) > 1
        return f"{curve.source} {curve.metric}" if several else curve.metric


def make_plot(
    sources: Sequence[CurveSource], metrics: Sequence[str], axis: Axis, *, log: bool = False
) -> Plot:
    """Return the curves of these metrics of all sources.

    A name such as ``loss`` means ``training_loss`` and ``validation_loss``, as far as a run has
    them. With ``log`` points of 0 or less are left out. Times begin with the first row of each
    source. Raises InvalidInput for a metric that a source does not have, and for one without a
    point.
    """
    seconds, unit = _unit(sources) if axis == "time" else (1.0, "")
    curves = [
        _curve(source, name, axis, seconds, log=log)
        for metric in metrics
        for source in sources
        for name in _named(source, metric)
    ]
    x_label = f"time since the first epoch ended ({unit})" if unit else axis
    return Plot(tuple(dict.fromkeys(curves)), x_label, ", ".join(metrics), log)


def metrics_of(source: CurveSource) -> list[str]:
    """Return the names of all metrics of a source, in the order of their first rows."""
    names = dict.fromkeys(name for row in source.rows for name in row)
    return [name for name in names if name not in _NO_METRICS]


def _named(source: CurveSource, metric: str) -> list[str]:
    """Return the full names that a name stands for in a source; raises InvalidInput."""
    names = metrics_of(source)
    if found := [prefix + metric for prefix in PREFIXES if prefix + metric in names]:
        return found
    if metric in names:
        return [metric]
    short = [name.removeprefix("training_").removeprefix("validation_") for name in names]
    known = list(dict.fromkeys([*short, *names]))
    raise InvalidInput(
        f"{source.name}: no metric {metric!r}{alternatives(metric, known, 'it has')}"
    )


def _curve(source: CurveSource, metric: str, axis: Axis, seconds: float, *, log: bool) -> Curve:
    start = source.rows[0]["time"] if axis == "time" else 0.0
    rows = [row for row in source.rows if metric in row and (not log or row[metric] > 0)]
    if not rows:
        raise InvalidInput(
            f"{source.name}: {metric} is never above 0, so it has no logarithm; leave out --log"
        )
    x = tuple((row[axis] - start) / seconds for row in rows)
    return Curve(source.name, metric, x, tuple(row[metric] for row in rows))


def _unit(sources: Sequence[CurveSource]) -> tuple[float, str]:
    """Return the seconds and the name of the unit that suits the longest of the runs."""
    longest = max(source.rows[-1]["time"] - source.rows[0]["time"] for source in sources)
    return next((unit for unit in _UNITS if longest >= 2 * unit[0]), _UNITS[-1])


def value_range(values: Iterable[float], *, log: bool = False) -> tuple[float, float]:
    """Return the least and the largest value; of equal ones a range around them."""
    found = list(values)
    low, high = min(found), max(found)
    if low < high:
        return low, high
    if log:
        return low / 2, high * 2
    return low - abs(low or 1) / 2, high + abs(high or 1) / 2
