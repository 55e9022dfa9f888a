"""Every installed loss keeps its contract; a new kind is tested once registered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dbp.nn.layer import Workspace
from dbp.nn.softmax_cross_entropy import SoftmaxCrossEntropy
from dbp.registry import component_class, kinds
from dbp.testing import check_loss

REQUIRED: dict[str, dict[str, Any]] = {}

# An output that each loss refuses.
REFUSED: dict[str, list[tuple[int, ...]]] = {
    "softmax_cross_entropy": [(1,), (), (3, 2)],
    "mean_squared_error": [(0,)],
}


@pytest.mark.parametrize("kind", kinds("losses"))
def test_every_loss_keeps_the_contract(kind: str) -> None:
    check_loss(component_class("losses", kind)(**REQUIRED.get(kind, {})), (3,))


@pytest.mark.parametrize("output_shape", [(1,), (2, 3)])
def test_the_squared_error_takes_any_shape(output_shape: tuple[int, ...]) -> None:
    check_loss(component_class("losses", "mean_squared_error")(), output_shape)


@pytest.mark.parametrize(
    ("kind", "output_shape"), [(kind, shape) for kind in REFUSED for shape in REFUSED[kind]]
)
def test_an_output_that_does_not_fit_is_refused(kind: str, output_shape: tuple) -> None:
    with pytest.raises(ValueError, match=kind):
        component_class("losses", kind)().check_output(output_shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_neither_overflow_nor_lose_their_gradient(dtype: Any) -> None:
    logits = np.array([[1e4, 0.0, -1e4], [-1e4, 1e4, 1e4]], dtype)

    loss, gradient = SoftmaxCrossEntropy().evaluate(
        logits, np.array([2, 1]), None, Workspace(dtype)
    )

    # Row 1: the wrong class by 20000; row 2: a tie of two, log 2.
    assert loss == pytest.approx(20000 + np.log(2), rel=1e-6)
    assert gradient is not None
    assert gradient.tolist() == [[1.0, 0.0, -1.0], [0.0, -0.5, 0.5]]


def test_probabilities_are_not_negative_and_sum_to_one() -> None:
    logits = np.array([[1.0, 2.0, 3.0], [-1e4, 0.0, 1e4]])

    p = SoftmaxCrossEntropy().activate(logits)

    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-15)
    assert logits[0].tolist() == [1.0, 2.0, 3.0]
