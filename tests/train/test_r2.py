"""The coefficient of determination in training, where sums are exchanged in float32."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import r2_score

from dbp.data.array_dataset import arrays
from tests.train.setups import document, make_setup, run_ranks

ROWS = 512


def measured(offset: float, dtype: str, ranks: int) -> tuple[float, float, float]:
    """In training, in evaluation, and by scikit-learn, of a model that gives a constant."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 5))
    targets = offset + x[:, 0] + 0.1 * rng.normal(size=ROWS)
    constant = {"kind": "constant", "value": offset + 1.0}
    spec = document(
        loss="mean_squared_error",
        dtype=dtype,
        batch_size=ROWS,
        optimizer={"kind": "sgd", "learning_rate": 1e-12},
    )
    dense = {"kind": "dense", "units": 1, "bias_initializer": constant}
    spec["model"]["layers"] = [dense | {"weight_initializer": "zeros"}]
    spec["model"]["metrics"] = ["r2"]
    data = arrays(x, targets)

    def make() -> Any:
        return make_setup(spec, data, validation=data)

    metrics = run_ranks(ranks, make)[0][0].metrics
    expected = float(r2_score(targets, np.full(ROWS, offset + 1.0)))
    return metrics["training_r2"], metrics["validation_r2"], expected


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize(
    ("offset", "dtype", "tolerance"),
    [(0.0, "float32", 1e-4), (100.0, "float32", 1e-2), (1000.0, "float64", 1e-6)],
)
def test_training_agrees_with_scikit_learn(
    offset: float, dtype: str, tolerance: float, ranks: int
) -> None:
    training, validation, expected = measured(offset, dtype, ranks)

    assert training == pytest.approx(expected, rel=tolerance)
    assert validation == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("offset", [1000.0, 4000.0])
def test_targets_whose_variance_float32_cannot_hold_give_no_number(offset: float) -> None:
    training, validation, expected = measured(offset, "float32", 2)

    assert math.isnan(training)
    assert validation == pytest.approx(expected, rel=1e-2)
