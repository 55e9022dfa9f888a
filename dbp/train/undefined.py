"""Figures that are no numbers: which, why, and what to do about them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from dbp.nn.metric import Metric

LOSS_UNDEFINED = "the loss of a sample is not finite: an output or a target is too large"


def undefined_figures(
    figures: Mapping[str, float], metrics: Mapping[str, Metric], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """The names of figures that are not finite, each with the reason, for people.

    ``metrics`` by kind; ``prefix``: what the names begin with, others are left out.
    """
    for name, value in figures.items():
        if math.isfinite(value) or not name.startswith(prefix):
            continue
        metric = metrics.get(name.removeprefix(prefix).partition("[")[0])
        why = LOSS_UNDEFINED if metric is None else metric.undefined_where()
        yield name, f"{name} is {'not a number' if math.isnan(value) else value}: {why}"
