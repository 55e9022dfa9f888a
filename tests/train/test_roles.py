"""Which parameters decay, and which have a rate of their own: the layers say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dbp.data.array_dataset import arrays
from dbp.data.sampler import order
from dbp.nn.parameters import Parameters
from dbp.parallel.communicator import SoloCommunicator
from dbp.train.step import Step
from tests.closeness import assert_close
from tests.train.setups import Array, document, make_setup, run_ranks

STEPS, ROWS = 6, 24
SHAPE = (2, 4, 3)
LAYERS = [
    {"kind": "conv2d", "filters": 3, "kernel": 3, "padding": 1},
    "layer_norm",
    {"kind": "residual", "layers": ["layer_norm", "tanh"]},
    {"kind": "batch_norm"},
    "flatten",
    {"kind": "dense", "units": 3},
]
SCALES = ("1.weight", "2.0.weight", "3.weight")
BIASES = ("0.bias", "1.bias", "2.0.bias", "3.bias", "5.bias")
WEIGHTS = ("0.weight", "5.weight")


def spec_of(optimizer: dict[str, Any]) -> dict[str, Any]:
    spec = document(batch_size=ROWS, epochs=STEPS, lanes=2, optimizer=optimizer)
    spec["model"]["layers"] = LAYERS
    return spec


def data() -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(ROWS, *SHAPE)), rng.integers(0, 3, ROWS)


class Residual(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside: torch.Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x + inside


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained_by_torch(
    optimizer_of: Callable[[dict[str, Any]], Any], l1: float = 0.0
) -> dict[str, torch.Tensor]:
    x, y = data()
    setup = make_setup(spec_of({"kind": "sgd"}), arrays(x, y))
    start = Parameters.zeros(setup.model.tensor_shapes, np.float64)
    setup.model.initialize(start, 5)
    inner = (3, *SHAPE[1:])
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.LayerNorm(inner),
        Residual(nn.LayerNorm(inner), nn.Tanh()), nn.BatchNorm2d(3), nn.Flatten(),
        nn.Linear(36, 3),
    ).double()  # fmt: skip
    network.load_state_dict({name: torch.tensor(view) for name, view in start.views.items()})
    named = dict(network.named_parameters())
    optimizer = optimizer_of(named)
    for epoch in range(1, STEPS + 1):
        rows = order(5, epoch, ROWS).take(0, ROWS)
        optimizer.zero_grad()
        loss: Any = nn.functional.cross_entropy(
            network(torch.tensor(x[rows])), torch.tensor(y[rows])
        )
        loss = loss + l1 * sum(named[name].abs().sum() for name in WEIGHTS)
        loss.backward()
        optimizer.step()
    return network.state_dict()


def groups(named: dict[str, Any], decay: float) -> list[dict[str, Any]]:
    return [
        {"params": [named[name] for name in WEIGHTS], "weight_decay": decay},
        {"params": [named[name] for name in SCALES + BIASES], "weight_decay": 0.0},
    ]


@pytest.mark.parametrize(
    ("optimizer", "peer", "l1"),
    [
        (
            {"kind": "adamw", "learning_rate": 0.02, "weight_decay": 0.3},
            lambda named: torch.optim.AdamW(groups(named, 0.3), lr=0.02),
            0.0,
        ),
        (
            {"kind": "momentum", "learning_rate": 0.05, "weight_decay": 0.2},
            lambda named: torch.optim.SGD(groups(named, 0.2), lr=0.05, momentum=0.9),
            0.0,
        ),
        (
            {"kind": "sgd", "learning_rate": 0.05, "l1": 0.1},
            lambda named: torch.optim.SGD(named.values(), lr=0.05),
            0.1,
        ),
        (
            {"kind": "adamw", "learning_rate": 0.02, "weight_decay": 0.3, "decay_biases": True},
            lambda named: torch.optim.AdamW(named.values(), lr=0.02, weight_decay=0.3),
            0.0,
        ),
    ],
    ids=["adamw", "momentum", "l1", "adamw, all decay"],
)
def test_scales_of_several_dimensions_do_not_decay_as_in_torch(
    optimizer: dict[str, Any], peer: Any, l1: float
) -> None:
    x, y = data()
    expected = trained_by_torch(peer, l1)

    _, vector = run_ranks(2, lambda: make_setup(spec_of(optimizer), arrays(x, y)))[0]

    setup = make_setup(spec_of(optimizer), arrays(x, y))
    for name, view in Parameters(setup.model.tensor_shapes, vector).views.items():
        scale = max(1.0, float(np.abs(view).max()))
        assert_close(view, expected[name], 1e-9, scale=scale, name=name)


@pytest.mark.parametrize("kind", ["lars", "lamb", "adamw", "sgd"])
def test_only_weights_decay_and_only_they_have_a_ratio(kind: str) -> None:
    optimizer = {"kind": kind, "weight_decay": 0.1, "l1": 0.2, "bias_factor": 2.0}
    setup = make_setup(spec_of(optimizer), arrays(*data()))
    parameters = Parameters.zeros(setup.model.tensor_shapes, np.float64)

    groups = Step(setup, parameters, SoloCommunicator()).updater.groups

    def run_of(name: str) -> Any:
        place = parameters.slices[name]
        return next(r for r in groups if r.start <= place.start and place.stop <= r.stop)

    for name in WEIGHTS:
        group = run_of(name)
        assert (group.weight_decay + group.decoupled_decay, group.l1, group.rate_factor) == (
            0.1,
            0.2,
            1,
        )
        assert group.layerwise == (kind in ("lars", "lamb"))
    for name in SCALES + BIASES:
        group = run_of(name)
        assert (group.weight_decay, group.decoupled_decay, group.l1, group.layerwise) == (
            0,
            0,
            0,
            False,
        )
        assert group.rate_factor == (2.0 if name in BIASES else 1.0)


def test_an_embedding_is_a_weight() -> None:
    spec = document(epochs=1)
    spec["model"]["layers"] = [
        {"kind": "embedding", "count": 5, "dimension": 1},
        {"kind": "dense", "units": 3},
    ]
    x = np.random.default_rng(1).integers(0, 5, (8, 4)).astype(np.float64)
    setup = make_setup(spec, arrays(x, np.zeros(8, np.int64)))

    assert setup.model.parameter_roles == {
        "0.weight": "weight",
        "1.weight": "weight",
        "1.bias": "bias",
    }
