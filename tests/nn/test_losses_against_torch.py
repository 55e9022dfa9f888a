"""Losses with their options against PyTorch's own, in float64: means and gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from dbp.nn.absolute_error import AbsoluteError
from dbp.nn.binary_cross_entropy import BinaryCrossEntropy
from dbp.nn.hinge import Hinge
from dbp.nn.huber import Huber
from dbp.nn.layer import Array, Workspace
from dbp.nn.loss import Loss
from dbp.nn.poisson import Poisson
from dbp.nn.sigmoid_cross_entropy import SigmoidCrossEntropy
from dbp.nn.softmax_cross_entropy import SoftmaxCrossEntropy
from dbp.registry import component_class, kind_of, kinds
from tests.closeness import assert_close

Judge = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
WEIGHTS = (0.5, 2.0, 1.5, 0.25)
TENSOR = torch.tensor(WEIGHTS, dtype=torch.float64)


def binary(y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    loss: torch.Tensor = nn.BCEWithLogitsLoss()(y[:, 0], t.double())
    return loss


def binary_hinge(y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.clamp(1 - (2 * t - 1) * y[:, 0], min=0).mean()


def hinge(y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    loss: torch.Tensor = nn.MultiMarginLoss()(y, t) * y.shape[1]
    return loss


CASES: list[tuple[Loss, Judge, int]] = [
    (SoftmaxCrossEntropy(), nn.CrossEntropyLoss(), 4),
    (SoftmaxCrossEntropy(class_weights=WEIGHTS), nn.CrossEntropyLoss(weight=TENSOR), 4),
    (SoftmaxCrossEntropy(label_smoothing=0.1), nn.CrossEntropyLoss(label_smoothing=0.1), 4),
    (
        SoftmaxCrossEntropy(class_weights=WEIGHTS, label_smoothing=0.3),
        nn.CrossEntropyLoss(weight=TENSOR, label_smoothing=0.3),
        4,
    ),
    (
        SoftmaxCrossEntropy(class_weights=(0.0, 1.0, 2.0, 3.0)),
        nn.CrossEntropyLoss(weight=torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)),
        4,
    ),
    (BinaryCrossEntropy(), binary, 1),
    (Hinge(), binary_hinge, 1),
    (Hinge(), hinge, 4),
    (SigmoidCrossEntropy(), nn.BCEWithLogitsLoss(), 4),
    (AbsoluteError(), nn.L1Loss(), 4),
    (Huber(), nn.HuberLoss(), 4),
    (Huber(delta=0.3), nn.HuberLoss(delta=0.3), 4),
    (Poisson(), nn.PoissonNLLLoss(log_input=True, full=False), 4),
]


def draw(loss: Loss, outputs: int, scale: float) -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    prediction = scale * rng.standard_normal((40, outputs))
    if loss.target_kind() == "class":
        return prediction, rng.integers(0, loss.class_count((outputs,)), 40)
    return prediction, rng.uniform(0, 1, (40, outputs))


@pytest.mark.parametrize("scale", [1.0, 40.0])
@pytest.mark.parametrize(("loss", "judge", "outputs"), CASES)
def test_means_and_gradients_are_those_of_torch(
    loss: Loss, judge: Judge, outputs: int, scale: float
) -> None:
    prediction, target = draw(loss, outputs, scale)
    loss.check_output((outputs,))
    weight = loss.sample_weights(target, None)
    total = len(target) if weight is None else weight.sum()

    found, gradient = loss.evaluate(prediction, target, weight, Workspace(np.float64))

    y = torch.tensor(prediction, requires_grad=True)
    expected = judge(y, torch.tensor(target))
    expected.backward()  # type: ignore[no-untyped-call]
    assert gradient is not None
    assert y.grad is not None
    assert found / total == pytest.approx(expected.item(), rel=1e-12)
    assert_close(gradient / total, y.grad.numpy(), 1e-11)


def test_every_loss_is_compared_with_torch() -> None:
    compared = {kind_of("losses", loss) for loss, _, _ in CASES}
    own = {k for k in kinds("losses") if component_class("losses", k).__module__[:4] == "dbp."}
    assert compared | {"mean_squared_error"} == own  # which is in test_against_torch
