"""Layers and losses against PyTorch's own, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dbp.nn.layer import Array, Workspace
from dbp.nn.parameters import Parameters
from dbp.registry import component_class, kinds
from tests.closeness import assert_close

TOLERANCE = 1e-10

LAYERS: dict[str, tuple[dict[str, Any], torch.nn.Module]] = {
    "dense": ({"units": 7}, torch.nn.Linear(5, 7)),
    "elu": ({"alpha": 0.7}, torch.nn.ELU(0.7)),
    "flatten": ({}, torch.nn.Flatten()),
    "gelu": ({}, torch.nn.GELU()),
    "hard_sigmoid": ({}, torch.nn.Hardsigmoid()),
    "layer_norm": ({}, torch.nn.LayerNorm(5)),
    "leaky_relu": ({"slope": 0.2}, torch.nn.LeakyReLU(0.2)),
    "selu": ({}, torch.nn.SELU()),
    "silu": ({}, torch.nn.SiLU()),
    "softmax": ({}, torch.nn.Softmax(dim=-1)),
    "softplus": ({}, torch.nn.Softplus(threshold=1e6)),
    "identity": ({}, torch.nn.Identity()),
    "relu": ({}, torch.nn.ReLU()),
    "sigmoid": ({}, torch.nn.Sigmoid()),
    "tanh": ({}, torch.nn.Tanh()),
}

LOSSES: dict[str, torch.nn.Module] = {
    "softmax_cross_entropy": torch.nn.CrossEntropyLoss(reduction="none"),
    "mean_squared_error": torch.nn.MSELoss(reduction="none"),
}


# PyTorch's gradient has its sixth in float32, in float64 too.
COARSE = {"hard_sigmoid": 1e-7}


def close(actual: Array | float, expected: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    assert_close(actual, expected.detach().numpy(), tolerance)


# Compared in files of their own.
IMAGES = {"average_pool2d", "conv2d", "global_average_pool2d", "max_pool2d"}
ELSEWHERE = {"batch_norm", "dropout", "embedding", "residual"} | IMAGES


def test_every_layer_and_loss_is_compared_with_torch() -> None:
    own = [kind for kind in kinds("layers") if _is_own("layers", kind)]
    assert own == sorted(ELSEWHERE | set(LAYERS))


def _is_own(group: Any, kind: str) -> bool:
    return component_class(group, kind).__module__.startswith("dbp.")


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_a_layer_computes_what_torch_computes(kind: str, scale: float) -> None:
    options, module = LAYERS[kind]
    layer = component_class("layers", kind)(**options)
    rng = np.random.default_rng(1)
    shapes = layer.parameter_shapes((5,))
    parameters = Parameters.zeros(shapes, np.float64)
    parameters.vector[:] = rng.standard_normal(len(parameters))
    gradients = Parameters.zeros(shapes, np.float64)
    module = module.double()
    names = {name: torch.tensor(view) for name, view in parameters.views.items()}
    module.load_state_dict(names)
    module.zero_grad()
    x = scale * rng.standard_normal((11, 5))
    x[0] = 0.0  # where relu has its kink
    x_torch = torch.tensor(x, requires_grad=True)

    y, backward = layer.forward(parameters.views, x, Workspace(np.float64))
    y_torch = module(x_torch)
    close(y, y_torch)
    dy = rng.standard_normal(y.shape)
    dx = backward(dy.copy(), gradients.views)
    y_torch.backward(torch.tensor(dy))

    assert dx is not None
    assert x_torch.grad is not None
    close(dx, x_torch.grad, COARSE.get(kind, TOLERANCE))
    assert [name for name, _ in module.named_parameters()] == list(shapes)
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        close(gradients[name], parameter.grad)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_a_loss_computes_what_torch_computes(kind: str, scale: float, weighted: bool) -> None:
    loss = component_class("losses", kind)()
    rng = np.random.default_rng(2)
    prediction = scale * rng.standard_normal((13, 4))
    target = (
        rng.integers(0, 4, 13) if loss.target_kind() == "class" else rng.normal(size=(13, 4))
    )
    weight = rng.uniform(0, 2, 13) if weighted else None
    prediction_torch = torch.tensor(prediction, requires_grad=True)

    total, gradient = loss.evaluate(prediction, target, weight, Workspace(np.float64))
    each = LOSSES[kind](prediction_torch, torch.tensor(target)).reshape(13, -1).mean(dim=1)
    expected = (each if weight is None else each * torch.tensor(weight)).sum()
    expected.backward()

    assert gradient is not None
    assert prediction_torch.grad is not None
    close(total, expected)
    close(gradient, prediction_torch.grad)


def test_one_output_with_flat_targets_is_torchs_squared_error() -> None:
    loss = component_class("losses", "mean_squared_error")()
    rng = np.random.default_rng(3)
    prediction, target = rng.normal(size=(6, 1)), rng.normal(size=6)

    total, _ = loss.evaluate(prediction, target, None, Workspace(np.float64))

    expected = torch.nn.functional.mse_loss(
        torch.tensor(prediction[:, 0]), torch.tensor(target), reduction="sum"
    )
    close(total, expected)
