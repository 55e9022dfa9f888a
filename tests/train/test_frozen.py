"""Frozen parameters and frozen batch normalization against PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, final

import numpy as np
import pytest
import torch
from torch import nn

from dbp.data.array_dataset import arrays
from dbp.data.sampler import order
from dbp.errors import InvalidSpec
from dbp.job.spec.resolve import resolve
from dbp.job.spec.shapes import check_shapes
from dbp.nn.dense import Dense
from dbp.nn.elementwise import Elementwise
from dbp.nn.lane_batch import LaneBatch
from dbp.nn.layer import Backward, Shape, Views, Workspace
from dbp.nn.mean_squared_error import MeanSquaredError
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.nn.residual import Residual as ResidualBlock
from dbp.train.build import Setup
from tests.closeness import assert_close
from tests.train.setups import Array, document, make_setup, run_ranks

STEPS, ROWS = 5, 24
LAYERS = [
    {"kind": "dense", "units": 6},
    {"kind": "batch_norm", "momentum": 0.3},
    {"kind": "residual", "layers": [{"kind": "dense", "units": 6}, {"kind": "batch_norm"}]},
    "tanh",
    {"kind": "dense", "units": 3},
]
STATISTICS = ("1.running_mean", "1.running_var", "2.1.running_mean", "2.1.running_var")


class Residual(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside: torch.Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x + inside


def spec_of(frozen: list[str], **train: Any) -> dict[str, Any]:
    optimizer = {"kind": "momentum", "learning_rate": 0.1, "frozen": frozen}
    spec = document(batch_size=ROWS, epochs=STEPS, lanes=4, optimizer=optimizer, **train)
    spec["model"]["layers"] = LAYERS
    return spec


def data() -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    return 1.0 + rng.normal(size=(ROWS, 5)), rng.integers(0, 3, ROWS)


def start_of(setup: Setup) -> Parameters:
    """Statistics as if the model had been trained before."""
    start = Parameters.zeros(setup.model.tensor_shapes, np.float64)
    setup.model.initialize(start, 5)
    rng = np.random.default_rng(9)
    for name in STATISTICS:
        start[name][...] = rng.uniform(0.5, 2.0, start[name].shape)
    return start


def make(frozen: list[str], **train: Any) -> Setup:
    setup = make_setup(spec_of(frozen, **train), arrays(*data()))
    start = start_of(setup)

    def initialize(parameters: Parameters, seed: int) -> None:
        parameters.vector[:] = start.vector

    setup.model.initialize = initialize  # type: ignore[method-assign]
    return setup


def trained_by_torch(
    frozen: set[str], evaluated: set[str], clip: float | None = None
) -> dict[str, torch.Tensor]:
    x, y = data()
    network = nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6, momentum=0.3),
        Residual(nn.Linear(6, 6), nn.BatchNorm1d(6)), nn.Tanh(), nn.Linear(6, 3),
    ).double()  # fmt: skip
    start = start_of(make([]))
    network.load_state_dict({name: torch.tensor(view) for name, view in start.views.items()})
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)
    for name, module in network.named_modules():
        if name in evaluated:
            module.eval()
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9)
    for epoch in range(1, STEPS + 1):
        rows = order(5, epoch, ROWS).take(0, ROWS)
        optimizer.zero_grad()
        output = network(torch.tensor(x[rows]))
        loss: Any = nn.functional.cross_entropy(output, torch.tensor(y[rows]))
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(trained, clip)
        optimizer.step()
    return network.state_dict()


@pytest.mark.parametrize(
    ("patterns", "frozen", "evaluated"),
    [
        (["1.*"], {"1.weight", "1.bias"}, {"1"}),
        (["1.weight", "1.bias"], {"1.weight", "1.bias"}, {"1"}),
        (["1.running_*"], set(), {"1"}),
        (["2.1.running_mean"], set(), {"2.1"}),
        (["2.*"], {"2.0.weight", "2.0.bias", "2.1.weight", "2.1.bias"}, {"2.1"}),
        (["1.weight"], {"1.weight"}, set()),
        (["0.*"], {"0.weight", "0.bias"}, set()),
    ],
)
def test_frozen_normalization_equals_torch_in_evaluation_mode(
    patterns: list[str], frozen: set[str], evaluated: set[str]
) -> None:
    expected = trained_by_torch(frozen, evaluated)
    start = start_of(make([]))

    runs = [run_ranks(ranks, lambda: make(patterns)) for ranks in (1, 3, 4)]

    assert len({run[0][1].tobytes() for run in runs}) == 1
    found = Parameters(start.shapes, runs[0][0][1])
    for name, view in found.views.items():
        assert_close(view, expected[name], 1e-10, scale=1.0, name=name)
    kept = frozen | {name for name in STATISTICS if name.rpartition(".")[0] in evaluated}
    for name in kept:
        assert found[name].tobytes() == start[name].tobytes(), name
    for name in set(found.views) - kept:
        assert not np.array_equal(found[name], start[name]), name


def test_the_gradient_of_frozen_parameters_does_not_count_in_the_norm() -> None:
    expected = trained_by_torch({"0.weight", "0.bias"}, set(), clip=0.3)

    runs = [run_ranks(ranks, lambda: make(["0.*"], clip_norm=0.3)) for ranks in (1, 3)]

    assert runs[0][0][1].tobytes() == runs[1][0][1].tobytes()
    found = Parameters(start_of(make([])).shapes, runs[0][0][1])
    for name, view in found.views.items():
        assert_close(view, expected[name], 1e-10, scale=1.0, name=name)


def refusal(**options: Any) -> str:
    spec = spec_of([])
    spec["optimizer"] |= options
    with pytest.raises(InvalidSpec) as refused:
        check_shapes(resolve(spec), (5,))
    return str(refused.value)


def test_freezing_every_parameter_is_refused() -> None:
    assert refusal(frozen=["*"]) == (
        "optimizer.frozen: matches every parameter, so that nothing is trained"
    )


def test_running_statistics_have_no_learning_rate() -> None:
    text = refusal(rate_factors=["1.running_mean=0.5"])

    assert "optimizer.rate_factors: no parameter matches '1.running_mean'" in text


@final
@dataclass(frozen=True)
class Counter(Elementwise):
    """A layer that counts its rows, and does not ask whether it is frozen."""

    def state_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {"rows": (1,)}

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        if workspace.new_state is not None:
            workspace.new_state["rows"][...] += len(x)
        return x, lambda dy, gradients: dy


@pytest.mark.parametrize(
    ("frozen", "counts"),
    [("nothing", (4, 4)), ("0.rows", (0, 4)), ("1.0.rows", (4, 0)), ("1.*", (4, 0))],
)
def test_a_layer_that_does_not_ask_is_frozen_all_the_same(
    frozen: str, counts: tuple[int, int]
) -> None:
    model = Model(
        (Counter(), ResidualBlock(layers=(Counter(),)), Dense(units=1)),
        (2,),
        dtype="float64",
        loss=MeanSquaredError(),
        freezes=lambda name: fnmatchcase(name, frozen),
    )
    parameters = Parameters.zeros(model.tensor_shapes, "float64")
    state = Parameters.zeros(model.state_shapes, "float64")

    model.forward_training(
        parameters, LaneBatch(np.ones((4, 2)), np.ones((4, 1)), new_state=state)
    )

    assert (state["0.rows"][0], state["1.0.rows"][0]) == counts
