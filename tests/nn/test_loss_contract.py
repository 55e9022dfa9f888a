"""Every installed loss keeps its contract; a new kind is tested once registered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dbp.nn.hinge import Hinge
from dbp.nn.layer import Workspace
from dbp.nn.softmax_cross_entropy import SoftmaxCrossEntropy
from dbp.registry import component_class, kinds
from dbp.testing import check_loss

REQUIRED: dict[str, dict[str, Any]] = {}

# An output that each loss refuses.
REFUSED: dict[str, list[tuple[int, ...]]] = {
    "softmax_cross_entropy": [(1,), (), (3, 2)],
    "binary_cross_entropy": [(2,), ()],
    "hinge": [(0,), (2, 3)],
    "huber": [(0,)],
    "mean_absolute_error": [(0,)],
    "mean_squared_error": [(0,)],
    "poisson": [(0,)],
    "sigmoid_cross_entropy": [(0,)],
}

SINGLE = {"binary_cross_entropy"}  # takes one output only


@pytest.mark.parametrize("kind", kinds("losses"))
def test_every_loss_keeps_the_contract(kind: str) -> None:
    check_loss(
        component_class("losses", kind)(**REQUIRED.get(kind, {})),
        (1,) if kind in SINGLE else (3,),
    )


@pytest.mark.parametrize("kind", ["huber", "mean_absolute_error", "poisson"])
@pytest.mark.parametrize("output_shape", [(1,), (2, 3)])
def test_losses_of_values_take_any_shape(kind: str, output_shape: tuple[int, ...]) -> None:
    check_loss(component_class("losses", kind)(), output_shape)


@pytest.mark.parametrize(
    "loss",
    [
        SoftmaxCrossEntropy(class_weights=(0.5, 2.0, 3.0)),
        SoftmaxCrossEntropy(label_smoothing=0.2),
        SoftmaxCrossEntropy(class_weights=(0.5, 2.0, 3.0), label_smoothing=0.2),
    ],
)
def test_weighted_and_smoothed_classes_keep_the_contract(loss: SoftmaxCrossEntropy) -> None:
    check_loss(loss, (3,))


def test_hinge_of_a_single_output_keeps_the_contract() -> None:
    check_loss(Hinge(), (1,))


def test_class_weights_must_be_as_many_as_classes_and_not_all_zero() -> None:
    with pytest.raises(ValueError, match="2 class_weights, but the output has 3 classes"):
        SoftmaxCrossEntropy(class_weights=(1.0, 2.0)).check_output((3,))
    with pytest.raises(ValueError, match="class_weights: must not all be 0"):
        SoftmaxCrossEntropy(class_weights=(0.0, 0.0))
    with pytest.raises(ValueError, match="class_weights: must all be > 0"):
        SoftmaxCrossEntropy(class_weights=(0.0, 1.0), label_smoothing=0.1)


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
