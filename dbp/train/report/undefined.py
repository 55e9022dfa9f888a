"""Explain why metrics are NaN or infinite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from dbp.nn.metric import Metric

LOSS_UNDEFINED = "the loss of a sample is not finite: an output or a target is too large"


def undefined_figures(
    figures: Mapping[str, float], metrics: Mapping[str, Metric], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the name of each metric that is not finite, and a message with the reason.

    ``metrics`` are the metrics by kind. Names that do not begin with ``prefix`` are ignored.
    """
    for name, value in figures.items():
        if math.isfinite(value) or not name.startswith(prefix):
            continue
        metric = metrics.get(name.removeprefix(prefix).partition("[")[0])
        why = LOSS_UNDEFINED if metric is None else metric.undefined_where()
        yield name, f"{name} is {'not a number' if math.isnan(value) else value}: {why}"
