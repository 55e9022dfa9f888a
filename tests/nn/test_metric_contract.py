"""Every installed metric keeps its contract; a new kind is tested once registered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dbp.nn.accuracy import Accuracy
from dbp.nn.mean_absolute_error import MeanAbsoluteError
from dbp.registry import component_class, kinds
from dbp.testing import check_metric

REQUIRED: dict[str, dict[str, Any]] = {"top_k_accuracy": {"k": 2}}


@pytest.mark.parametrize("kind", kinds("metrics"))
def test_every_metric_keeps_the_contract(kind: str) -> None:
    check_metric(component_class("metrics", kind)(**REQUIRED.get(kind, {})), (3,))


@pytest.mark.parametrize("kind", kinds("losses"))
def test_default_metrics_of_a_loss_accept_its_targets(kind: str) -> None:
    loss = component_class("losses", kind)()

    for metric in loss.default_metrics():
        assert component_class("metrics", metric)().target_kind() == loss.target_kind()


def test_accuracy_by_hand() -> None:
    sums = np.zeros(2)
    prediction = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    metric = Accuracy()

    metric.accumulate(prediction, np.array([1, 1, 1]), None, sums)
    assert metric.value(sums) == pytest.approx(2 / 3)
    metric.accumulate(prediction, np.array([0, 0, 0]), np.array([1.0, 3.0, 0.5]), sums)

    assert sums.tolist() == [5.0, 7.5]  # 2 + 3 right of 3 + 4.5
    assert metric.higher_is_better()


def test_mean_absolute_error_by_hand() -> None:
    sums = np.zeros(2)
    metric = MeanAbsoluteError()

    # Rows: (|1| + |3|) / 2 = 2 and (|0| + |-5|) / 2 = 2.5.
    prediction, target = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[0.0, -1.0], [0.0, 5.0]])
    metric.accumulate(prediction, target, None, sums)
    assert metric.value(sums) == 2.25
    metric.accumulate(prediction, target, np.array([2.0, 0.0]), sums)

    assert metric.value(sums) == 8.5 / 4
    assert not metric.higher_is_better()


def test_one_output_takes_a_target_without_the_feature_axis() -> None:
    sums = np.zeros(2)

    MeanAbsoluteError().accumulate(np.array([[1.0], [3.0]]), np.array([0.0, 0.0]), None, sums)

    assert sums.tolist() == [4.0, 2.0]
