"""Batch normalization, dropout and the residual block in a model, in one lane and in many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dbp.nn.batch_norm import BatchNorm
from dbp.nn.dense import Dense
from dbp.nn.dropout import Dropout
from dbp.nn.lane_batch import LaneBatch
from dbp.nn.layer import Array, Workspace
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.nn.relu import ReLU
from dbp.nn.residual import Residual
from dbp.nn.row_random import RowRandom
from dbp.nn.softmax_cross_entropy import SoftmaxCrossEntropy
from dbp.train.lockstep import train_lanes
from tests.closeness import assert_close

TOLERANCE = 1e-10


class TorchResidual(torch.nn.Sequential):
    """The same names and the same function."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside: torch.Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x + inside


def make_model() -> tuple[Model, Parameters]:
    inside = (Dense(units=6), BatchNorm(momentum=0.3), ReLU())
    layers = (Dense(units=6), BatchNorm(), Residual(layers=inside), Dense(units=3))
    model = Model(layers, (4,), dtype="float64", loss=SoftmaxCrossEntropy())
    parameters = Parameters.zeros(model.tensor_shapes, "float64")
    model.initialize(parameters, 3)
    return model, parameters


def make_torch_model(parameters: Parameters) -> torch.nn.Module:
    inside = TorchResidual(
        torch.nn.Linear(6, 6), torch.nn.BatchNorm1d(6, momentum=0.3), torch.nn.ReLU()
    )
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), inside, torch.nn.Linear(6, 3)
    ).double()
    module.load_state_dict({n: torch.tensor(v) for n, v in parameters.views.items()})
    return module


def make_batch(rows: int = 11) -> tuple[Array, Array]:
    rng = np.random.default_rng(5)
    return 3.0 + rng.standard_normal((rows, 4)), rng.integers(0, 3, rows)


def differentiate(
    model: Model, parameters: Parameters, x: Array, target: Array, cuts: list[int]
) -> tuple[Array, Parameters]:
    """Return the summed gradients of lanes cut at these rows, and the new state."""
    state = Parameters.zeros(model.state_shapes, "float64")
    for name, view in state.views.items():
        view[...] = parameters[name]
    bounds = list(zip([0, *cuts], [*cuts, len(x)], strict=True))
    gradients = [Parameters.zeros(model.parameter_shapes, "float64") for _ in bounds]
    batches = [
        LaneBatch(
            x[start:stop],
            target[start:stop],
            number=number,
            random=RowRandom(1, 2, start),
            new_state=None if number else state,
        )
        for number, (start, stop) in enumerate(bounds)
    ]
    train_lanes(model, parameters, batches, gradients)
    return sum((g.vector for g in gradients), np.zeros(len(gradients[0]))), state


@pytest.mark.parametrize("cuts", [[], [4], [0, 3, 3, 9]])
def test_lanes_compute_what_torch_computes_on_the_whole_mini_batch(cuts: list[int]) -> None:
    model, parameters = make_model()
    module = make_torch_model(parameters)
    x, target = make_batch()

    vector, state = differentiate(model, parameters, x, target, cuts)
    loss: Any = torch.nn.functional.cross_entropy(
        module(torch.tensor(x)), torch.tensor(target), reduction="sum"
    )
    loss.backward()

    gradients = Parameters(model.parameter_shapes, vector)
    scale = float(np.abs(vector).max())  # in front of the layer, a bias has the gradient 0
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        assert_close(gradients[name], parameter.grad, TOLERANCE, scale=scale, name=name)
    buffers = dict(module.named_buffers())
    scale = float(np.abs(state.vector).max())
    for name, view in state.views.items():
        assert_close(view, buffers[name], TOLERANCE, scale=scale, name=name)


@pytest.mark.parametrize("cuts", [[], [0], [1], [0, 1, 1]])
def test_a_single_row_uses_the_running_statistics_and_does_not_update_them(
    cuts: list[int],
) -> None:
    model, parameters = make_model()
    rng = np.random.default_rng(1)
    for name in model.state_shapes:
        parameters[name][...] = rng.uniform(0.5, 2.0, parameters[name].shape)
    module = make_torch_model(parameters).eval()
    x, target = make_batch(1)

    vector, state = differentiate(model, parameters, x, target, cuts)
    loss: Any = torch.nn.functional.cross_entropy(
        module(torch.tensor(x)), torch.tensor(target), reduction="sum"
    )
    loss.backward()

    for name, view in state.views.items():
        assert view.tolist() == parameters[name].tolist(), name
    gradients = Parameters(model.parameter_shapes, vector)
    assert np.abs(gradients["0.weight"]).max() > 0  # the gradient passes the layer
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        assert_close(gradients[name], parameter.grad, TOLERANCE, name=name)


def test_a_single_image_has_a_variance_over_its_positions() -> None:
    layer, module = BatchNorm(), torch.nn.BatchNorm2d(3).double()
    x = np.random.default_rng(2).standard_normal((1, 3, 4, 2))
    state = {"running_mean": np.zeros(3), "running_var": np.ones(3)}
    views = {"weight": np.ones(3), "bias": np.zeros(3)} | state
    workspace = Workspace("float64")
    workspace.training, workspace.new_state = True, state

    y, _ = layer.forward(views, x, workspace)

    assert_close(y, module(torch.tensor(x)).detach().numpy(), TOLERANCE)
    assert_close(state["running_var"], module.running_var, TOLERANCE)


def test_evaluation_uses_the_running_statistics() -> None:
    model, parameters = make_model()
    x, target = make_batch()
    _, state = differentiate(model, parameters, x, target, [])
    for name, view in state.views.items():
        parameters[name][...] = view
    module = make_torch_model(parameters).eval()

    expected = module(torch.tensor(x)).detach().numpy()

    assert_close(model.forward(parameters, x), expected, TOLERANCE)


def test_images_are_normalized_channel_by_channel() -> None:
    layer, module = BatchNorm(), torch.nn.BatchNorm2d(3).double()
    x = np.random.default_rng(2).standard_normal((5, 3, 4, 2))
    views = {"weight": np.ones(3), "bias": np.zeros(3)}
    workspace = Workspace("float64")
    workspace.training = True

    y, _ = layer.forward(views, x, workspace)

    expected = module(torch.tensor(x)).detach().numpy()
    assert_close(y, expected, TOLERANCE)


def drop(rows: slice, *, step: int = 1, seed: int = 7, place: str = "3") -> Array:
    workspace = Workspace("float32", place=place)
    workspace.training = True
    workspace.random = RowRandom(seed, step, rows.start)
    y, _ = Dropout(rate=0.25).forward(
        {}, np.ones((rows.stop - rows.start, 100), "f4"), workspace
    )
    return y.copy()


def test_dropout_depends_on_the_sample_and_not_on_the_lane() -> None:
    whole = drop(slice(0, 64))

    lanes = [drop(slice(a, b)) for a, b in ((0, 1), (1, 20), (20, 20), (20, 64))]

    assert np.array_equal(np.concatenate(lanes), whole)
    assert set(np.unique(whole)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(np.mean(whole == 0) - 0.25) < 0.02


def test_dropout_depends_on_step_seed_and_layer() -> None:
    rows = slice(0, 8)
    drawn = [drop(rows), drop(rows, step=2), drop(rows, seed=8), drop(rows, place="4")]

    for i, one in enumerate(drawn):
        for other in drawn[i + 1 :]:
            assert not np.array_equal(one, other)
