"""The differences of runs and jobs: specs field by field, metrics epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dbp.cli.arguments.figures import Figures
from dbp.errors import InvalidInput, alternatives
from dbp.job.spec.differences import SpecDifference, spec_differences
from dbp.json_value import JsonObject
from dbp.plot.curves import metrics_of

# Metrics whose curves are shown unless others are named: the first that all have.
_PREFERRED = ("validation_loss", "training_loss")


@dataclass(frozen=True)
class MetricSummary:
    """A metric of each source; None where it has no such metric."""

    metric: str
    last: tuple[float | None, ...]
    least: tuple[float | None, ...]
    greatest: tuple[float | None, ...]


@dataclass(frozen=True)
class ComparedCurves:
    """A metric by epoch: ``values[i][k]`` is that of source ``k`` in ``epochs[i]``, or None."""

    metric: str
    epochs: tuple[int, ...]
    values: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Comparison:
    """The differences between several runs and jobs.

    Attributes:
        names: Of the runs and jobs.
        spec: Fields of their specs that differ.
        epochs: How many epochs each has trained.
        metrics: Every metric that one of them has.
        curves: The chosen metrics, by epoch.
    """

    names: tuple[str, ...]
    spec: tuple[SpecDifference, ...]
    epochs: tuple[int, ...]
    metrics: tuple[MetricSummary, ...]
    curves: tuple[ComparedCurves, ...]

    def to_json(self) -> JsonObject:
        """Return the comparison as JSON values, one list entry a run or job."""
        return {
            "names": list(self.names),
            "epochs": list(self.epochs),
            "spec": [{"field": d.path, "values": list(d.values)} for d in self.spec],
            "metrics": [
                {
                    "metric": summary.metric,
                    "last": list(summary.last),
                    "least": list(summary.least),
                    "greatest": list(summary.greatest),
                }
                for summary in self.metrics
            ],
            "curves": [
                {
                    "metric": curves.metric,
                    "epochs": list(curves.epochs),
                    "values": [list(row) for row in curves.values],
                }
                for curves in self.curves
            ],
        }


def compare_figures(sources: Sequence[Figures], metrics: Sequence[str]) -> Comparison:
    """Return the differences; ``metrics`` names those whose curves are wanted.

    Without names these are the losses on the validation set, else on the training set. Raises
    InvalidInput for a metric that none of the sources has.
    """
    names = dict.fromkeys(name for source in sources for name in metrics_of(source.curves))
    for metric in metrics:
        if metric not in names:
            raise InvalidInput(
                f"no metric {metric!r}{alternatives(metric, list(names), 'they have')}"
            )
    chosen = list(dict.fromkeys(metrics)) or _preferred(sources)
    return Comparison(
        names=tuple(source.curves.name for source in sources),
        spec=tuple(spec_differences([source.spec for source in sources])),
        epochs=tuple(int(source.curves.rows[-1]["epoch"]) for source in sources),
        metrics=tuple(_summary(sources, name) for name in names),
        curves=tuple(_curves(sources, name) for name in chosen),
    )


def _preferred(sources: Sequence[Figures]) -> list[str]:
    known = [metrics_of(source.curves) for source in sources]
    return [name for name in _PREFERRED if all(name in names for names in known)][:1]


def _summary(sources: Sequence[Figures], metric: str) -> MetricSummary:
    columns = [
        [row[metric] for row in source.curves.rows if metric in row] for source in sources
    ]
    return MetricSummary(
        metric,
        last=tuple(column[-1] if column else None for column in columns),
        least=tuple(min(column, default=None) for column in columns),
        greatest=tuple(max(column, default=None) for column in columns),
    )


def _curves(sources: Sequence[Figures], metric: str) -> ComparedCurves:
    columns = [
        {int(row["epoch"]): row[metric] for row in source.curves.rows if metric in row}
        for source in sources
    ]
    epochs = sorted({epoch for column in columns for epoch in column})
    values = tuple(tuple(column.get(epoch) for column in columns) for epoch in epochs)
    return ComparedCurves(metric, tuple(epochs), values)
