"""Whole networks trained for fifty steps by dbp's trainer and by PyTorch, side by side.

Both begin with the same parameters and see the same mini-batches in the same order, the
short last one of each epoch too; on three ranks dbp shares every mini-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dbp.data.array_dataset import arrays
from dbp.data.sampler import order
from dbp.nn.parameters import Parameters
from tests.closeness import assert_close
from tests.train.setups import document, make_setup, run_ranks

STEPS, SAMPLES, BATCH, SEED = 50, 100, 24, 5
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


class Residual(nn.Sequential):
    """x + f(x), with the inner parameters' names as in dbp."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = x
        for module in self:
            inner = module(inner)
        return x + inner


@dataclass(frozen=True)
class Case:
    """One network, one optimizer, in both languages."""

    shape: tuple[int, ...]
    layers: list[dict[str, Any]]
    optimizer: dict[str, Any]
    network: Callable[[], nn.Sequential]
    peer: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]
    classes: int | None = 4  # None: two values to predict


CONV, FILTERS = {"kind": "conv2d", "padding": 1, "bias": False}, 6
CASES = {
    "perceptron, sgd": Case(
        (9,),
        [
            {"kind": "dense", "units": 16, "activation": "tanh"},
            {"kind": "dense", "units": 12, "activation": "gelu"},
            {"kind": "dense", "units": 4},
        ],
        {"kind": "sgd", "learning_rate": 0.2},
        lambda: nn.Sequential(
            nn.Linear(9, 16), nn.Tanh(),
            nn.Linear(16, 12), nn.GELU(),
            nn.Linear(12, 4),
        ),
        lambda parameters: torch.optim.SGD(parameters, lr=0.2),
    ),
    "regression, adam": Case(
        (9,),
        [
            {"kind": "dense", "units": 16, "activation": "silu"},
            {"kind": "layer_norm"},
            {"kind": "dense", "units": 2},
        ],
        {"kind": "adam", "learning_rate": 0.01},
        lambda: nn.Sequential(
            nn.Linear(9, 16), nn.SiLU(), nn.LayerNorm(16), nn.Linear(16, 2)
        ),
        lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        classes=None,
    ),
    "convolutions and batch normalization, momentum": Case(
        (2, 8, 8),
        [
            CONV | {"filters": FILTERS},
            {"kind": "batch_norm"},
            {"kind": "relu"},
            {"kind": "max_pool2d"},
            CONV | {"filters": 8, "groups": 2},
            {"kind": "batch_norm", "momentum": 0.3},
            {"kind": "tanh"},
            {"kind": "average_pool2d"},
            {"kind": "flatten"},
            {"kind": "dense", "units": 4},
        ],
        {"kind": "momentum", "learning_rate": 0.05, "momentum": 0.9},
        lambda: nn.Sequential(
            nn.Conv2d(2, FILTERS, 3, padding=1, bias=False), nn.BatchNorm2d(FILTERS), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(FILTERS, 8, 3, padding=1, groups=2, bias=False),
            nn.BatchNorm2d(8, momentum=0.3), nn.Tanh(),
            nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32, 4),
        ),
        lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    ),
    "residual blocks, adamw": Case(
        (2, 8, 8),
        [
            CONV | {"filters": FILTERS},
            *(
                {"kind": "residual", "layers": [
                    CONV | {"filters": FILTERS},
                    {"kind": "batch_norm"},
                    {"kind": "elu"},
                    CONV | {"filters": FILTERS},
                ]},
            ) * 2,
            {"kind": "leaky_relu"},
            {"kind": "global_average_pool2d"},
            {"kind": "dense", "units": 4},
        ],
        {"kind": "adamw", "learning_rate": 0.01, "weight_decay": 0.1, "decay_biases": True},
        lambda: nn.Sequential(
            nn.Conv2d(2, FILTERS, 3, padding=1, bias=False),
            *(
                Residual(
                    nn.Conv2d(FILTERS, FILTERS, 3, padding=1, bias=False),
                    nn.BatchNorm2d(FILTERS),
                    nn.ELU(),
                    nn.Conv2d(FILTERS, FILTERS, 3, padding=1, bias=False),
                )
                for _ in range(2)
            ),
            nn.LeakyReLU(),
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            nn.Linear(FILTERS, 4),
        ),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For so little work threads cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def samples(case: Case) -> tuple[Any, Any]:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(SAMPLES, *case.shape))
    if case.classes is None:
        return x, np.stack([np.sin(x[:, 0]), x[:, 1] * x[:, 2]], axis=1)
    return x, rng.integers(0, case.classes, SAMPLES)


def spec_of(case: Case, dtype: str, numerics: str) -> dict[str, Any]:
    loss = "mean_squared_error" if case.classes is None else "softmax_cross_entropy"
    spec = document(
        optimizer=case.optimizer, loss=loss, seed=SEED,
        dtype=dtype, batch_size=BATCH, epochs=None, steps=STEPS, numerics=numerics, lanes=4,
    )  # fmt: skip
    del spec["train"]["epochs"]
    spec["model"]["layers"] = case.layers
    return spec


def trained_by_torch(
    case: Case, start: Parameters, batch_of: Callable[[int], Any]
) -> dict[str, Any]:
    """PyTorch's parameters and running statistics by name, after all steps."""
    x, y = samples(case)
    dtype = torch.float32 if start.vector.dtype == np.float32 else torch.float64
    network = case.network().to(dtype)
    tensors = {name: torch.tensor(view) for name, view in start.views.items()}
    missing, unexpected = network.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    peer = case.peer(network.parameters())
    inputs = torch.tensor(x, dtype=dtype)
    targets = torch.tensor(y, dtype=dtype if case.classes is None else torch.int64)
    judge = nn.MSELoss() if case.classes is None else nn.CrossEntropyLoss()
    for step in range(1, STEPS + 1):
        rows = batch_of(step)
        peer.zero_grad()
        judge(network(inputs[rows]), targets[rows]).backward()
        peer.step()
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(("ranks", "numerics"), [(1, "fast"), (3, "fast"), (3, "exact")])
@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
@pytest.mark.parametrize("name", sorted(CASES))
def test_fifty_steps_give_pytorchs_parameters(
    name: str, dtype: str, ranks: int, numerics: str
) -> None:
    case = CASES[name]
    data = arrays(*samples(case))
    setup = make_setup(spec_of(case, dtype, "fast"), data)
    start = Parameters.zeros(setup.model.tensor_shapes, dtype)
    setup.model.initialize(start, SEED)

    def batch_of(step: int) -> Any:
        first, last = setup.plan.batch_of(step)
        return order(SEED, setup.plan.epoch_of(step), SAMPLES).take(first, last).copy()

    assert {len(batch_of(step)) for step in range(1, STEPS + 1)} == {BATCH, SAMPLES % BATCH}
    expected = trained_by_torch(case, start, batch_of)

    spec = spec_of(case, dtype, numerics)
    for outcome, vector in run_ranks(ranks, lambda: make_setup(spec, data)):
        assert (outcome.status, outcome.step) == ("succeeded", STEPS)
        for tensor, view in start.like(vector).views.items():
            assert np.abs(view - start[tensor]).max() > 10 * TOLERANCE[dtype]
            assert_close(view, expected[tensor], TOLERANCE[dtype], name=tensor)
