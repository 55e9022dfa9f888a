from __future__ import annotations

import pytest

from dbp.job.spec import StopSpec
from dbp.train.stopping import Stopping


def decisions(spec: StopSpec | None, values: list[float], *, higher: bool = False) -> list[str]:
    stopping = Stopping(spec, higher_is_better=higher)
    metric = spec.metric if spec else "training_loss"
    return [
        stopping.decide(epoch, {metric: value}) or ""
        for epoch, value in enumerate(values, start=1)
    ]


def test_without_a_rule_nothing_stops() -> None:
    assert decisions(None, [1.0, 1.0, 1.0]) == ["", "", ""]


def test_patience_counts_epochs_since_the_best() -> None:
    spec = StopSpec(metric="training_loss", patience=2)

    assert decisions(spec, [3.0, 2.0, 2.0, 1.0, 1.5, 1.0]) == ["", "", "", "", "", "converged"]


def test_an_improvement_within_the_tolerance_counts_as_none() -> None:
    spec = StopSpec(metric="training_loss", patience=1, tolerance=0.1)

    assert decisions(spec, [1.0, 0.95]) == ["", "converged"]
    assert decisions(spec, [1.0, 0.85]) == ["", ""]


@pytest.mark.parametrize(
    ("higher", "values", "expected"),
    [(True, [0.5, 0.9], ["", "target"]), (False, [0.95, 0.9], ["", "target"])],
)
def test_a_target_is_reached_from_the_side_where_it_gets_better(
    higher: bool, values: list[float], expected: list[str]
) -> None:
    assert decisions(StopSpec(metric="x", target=0.9), values, higher=higher) == expected


def test_nan_is_never_an_improvement() -> None:
    spec = StopSpec(metric="training_loss", patience=2)

    assert decisions(spec, [float("nan"), float("nan")]) == ["", "converged"]


def test_epochs_without_the_metric_decide_nothing() -> None:
    stopping = Stopping(StopSpec(metric="validation_loss", patience=1), higher_is_better=False)

    assert stopping.decide(1, {"validation_loss": 1.0}) is None
    assert stopping.decide(2, {"training_loss": 1.0}) is None
    assert stopping.decide(3, {"validation_loss": 1.0}) == "converged"
