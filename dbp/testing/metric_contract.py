"""Check that a metric keeps the contract of ``Metric``."""

from __future__ import annotations

import numpy as np

from dbp.nn.layer import Array, Shape
from dbp.nn.metric import Metric, ScoreMetric
from dbp.random import keyed_generator
from dbp.testing.judgement import BATCH, ROUNDING, draw_targets, require, require_close


def check_metric(metric: Metric, output_shape: Shape) -> None:
    """Check that a metric is a function of sums: any split of the samples gives its value.

    A weight of 2 must count the sample twice, a weight of 0 not at all; no sample gives NaN. A
    ScoreMetric must not depend on the order of the samples. Raises AssertionError.

    >>> from dbp.nn.accuracy import Accuracy
    >>> check_metric(Accuracy(), (3,))
    """
    rng = keyed_generator(0, "check_metric")
    prediction = rng.standard_normal((BATCH, *output_shape))
    target = draw_targets(metric.target_kind(), output_shape, rng)
    if isinstance(metric, ScoreMetric):
        _check_scores(metric, prediction, target)
        return

    def value(parts: list[Array], weight: Array | None = None) -> float:
        sums = np.zeros(metric.size(output_shape))
        for rows in parts:
            own = None if weight is None else weight[rows]
            metric.accumulate(prediction[rows], target[rows], own, sums)
        return float(metric.value(sums))

    everyone = np.arange(BATCH)
    whole = value([everyone])
    require(np.isfinite(whole), f"the value must be finite, got {whole}")
    for cut in range(BATCH + 1):
        split = value([everyone[:cut], everyone[cut:]])
        require_close(split, whole, f"the value split after {cut} samples", ROUNDING)
    require_close(
        value([everyone], np.ones(BATCH)), whole, "with weights of one, the value", ROUNDING
    )
    weighted = value([everyone], np.array([1.0, 2.0, 0.0, 1.0, 0.0]))
    require_close(weighted, value([np.array([0, 1, 1, 3])]), "the weighted value", ROUNDING)
    require(np.isnan(value([])), "without any sample the value must be NaN")
    require(np.isnan(value([everyone[:0]])), "of an empty batch the value must be NaN")


def _check_scores(metric: ScoreMetric, prediction: Array, target: Array) -> None:
    columns = metric.columns(prediction.shape[1:])

    def figure(rows: list[int], weight: Array) -> float:
        scores = np.full((len(rows), columns), np.nan)
        metric.write_scores(prediction[rows], scores)
        return float(metric.figure(scores, target[rows].astype(np.float64), weight))

    ones = np.ones(BATCH)
    whole = figure(list(range(BATCH)), ones)
    require(np.isfinite(whole), f"the figure must be finite, got {whole}")
    backwards = figure(list(reversed(range(BATCH))), ones)
    require_close(backwards, whole, "the figure of the samples backwards", ROUNDING)
    weighted = figure(list(range(BATCH)), np.array([1.0, 2.0, 0.0, 1.0, 1.0]))
    require_close(weighted, figure([0, 1, 1, 3, 4], ones), "the weighted figure", ROUNDING)
    require(np.isnan(figure([], ones[:0])), "without any sample the figure must be NaN")
