from __future__ import annotations

import json
import math

import pytest

from dbp.job.spec.job_spec import StopSpec
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


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("higher", [False, True])
def test_value_that_is_not_finite_neither_improves_nor_counts_for_patience(
    value: float, higher: bool
) -> None:
    spec = StopSpec(metric="x", patience=2, target=1e9 if higher else -1e9)

    assert decisions(spec, [value] * 9, higher=higher) == [""] * 9
    assert decisions(spec, [1.0, value, value, 1.0, value, 1.0], higher=higher) == [
        "", "", "", "", "", "converged",
    ]  # fmt: skip


def test_patience_counts_all_epochs_since_an_improvement_that_followed_a_nan() -> None:
    spec = StopSpec(metric="x", patience=2)

    assert decisions(spec, [2.0, math.nan, 1.0, 1.0, 1.0]) == ["", "", "", "", "converged"]


def test_metric_that_never_was_a_number_is_not_measured() -> None:
    stopping = Stopping(StopSpec(metric="x", patience=1), higher_is_better=True)

    stopping.decide(1, {"x": math.nan})
    assert not stopping.measured
    stopping.decide(2, {"x": 0.5})
    assert stopping.measured


def test_patience_counts_epochs_not_evaluations() -> None:
    spec = StopSpec(metric="validation_loss", patience=3)
    stopping = Stopping(spec, higher_is_better=False, every=2)
    values = {2: 1.0, 4: math.nan, 6: 1.0, 8: 1.0}

    found = [
        stopping.decide(epoch, {"validation_loss": value}) for epoch, value in values.items()
    ]

    # Epochs 5 to 8 brought no improvement; epochs 3 and 4 count for nothing.
    assert found == [None, None, None, "converged"]


def test_state_survives_a_checkpoint_and_an_older_one_can_be_read() -> None:
    spec = StopSpec(metric="x", patience=2)
    whole, resumed = (Stopping(spec, higher_is_better=False) for _ in range(2))
    for epoch, value in enumerate([1.0, math.nan, math.nan], start=1):
        whole.decide(epoch, {"x": value})

    resumed.restore(json.loads(json.dumps(whole.state())))
    for stopping in (whole, resumed):
        assert stopping.decide(4, {"x": 1.0}) is None
        assert stopping.decide(5, {"x": 1.0}) == "converged"

    resumed.restore({"best": 1.0, "best_epoch": 1})
    assert resumed.decide(3, {"x": 1.0}) == "converged"


def test_epochs_without_the_metric_decide_nothing() -> None:
    stopping = Stopping(StopSpec(metric="validation_loss", patience=1), higher_is_better=False)

    assert stopping.decide(1, {"validation_loss": 1.0}) is None
    assert stopping.decide(2, {"training_loss": 1.0}) is None
    assert stopping.decide(3, {"validation_loss": 1.0}) == "converged"
