"""Training with batch normalization: short mini-batches, parts, ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dbp.data.array_dataset import arrays
from dbp.data.sampler import order
from dbp.nn.parameters import Parameters
from dbp.parallel.lanes import part
from tests.closeness import assert_close
from tests.train.setups import Array, document, make_setup, run_ranks

EPOCHS = 3
ROWS = 33  # in mini-batches of 16: the last has a single row
LAYERS = [
    {"kind": "dense", "units": 6},
    {"kind": "batch_norm", "momentum": 0.3},
    "tanh",
    {"kind": "dense", "units": 3},
]


def spec_of(**train: Any) -> dict[str, Any]:
    spec = document(batch_size=16, epochs=EPOCHS, lanes=4, **train)
    spec["model"]["layers"] = LAYERS
    return spec


def data(rows: int = ROWS) -> tuple[Array, Array]:
    rng = np.random.default_rng(8)
    return 2.0 + rng.normal(size=(rows, 5)), rng.integers(0, 3, rows)


def torch_training(accumulate: int, *, drop_last: bool = False) -> Any:
    """The same training in PyTorch; parts of one row use the running statistics."""
    x, y = data()
    setup = make_setup(spec_of(), arrays(x, y))
    start = Parameters.zeros(setup.model.tensor_shapes, np.float64)
    setup.model.initialize(start, 5)
    module = torch.nn.Sequential(
        torch.nn.Linear(5, 6), torch.nn.BatchNorm1d(6, momentum=0.3), torch.nn.Tanh(),
        torch.nn.Linear(6, 3),
    ).double()  # fmt: skip
    module.load_state_dict({name: torch.tensor(view) for name, view in start.views.items()})
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for epoch in range(1, EPOCHS + 1):
        rows = order(5, epoch, len(x)).take(0, len(x))
        for first in range(0, len(x), 16):
            chosen = rows[first : first + 16]
            if drop_last and len(chosen) < 16:
                continue
            optimizer.zero_grad()
            for index in range(accumulate):
                own = chosen[slice(*part(len(chosen), index, accumulate))]
                if len(own) == 0:
                    continue
                module.train(len(own) > 1)
                loss: Any = torch.nn.functional.cross_entropy(
                    module(torch.tensor(x[own])), torch.tensor(y[own]), reduction="sum"
                )
                (loss / len(chosen)).backward()
            optimizer.step()
    return module


@pytest.mark.parametrize("numerics", ["exact", "fast"])
@pytest.mark.parametrize("accumulate", [1, 2, 5])
def test_a_last_mini_batch_of_one_row_equals_torch_on_any_number_of_ranks(
    numerics: str, accumulate: int
) -> None:
    x, y = data()
    state = torch_training(accumulate).state_dict()
    spec = spec_of(numerics=numerics, accumulate=accumulate)
    setup = make_setup(spec, arrays(x, y))

    runs = [run_ranks(ranks, lambda: make_setup(spec, arrays(x, y))) for ranks in (1, 2, 3, 4)]

    for run in runs:
        outcome, vector = run[0]
        assert outcome.status == "succeeded"
        found = Parameters(setup.model.tensor_shapes, vector)
        scale = float(np.abs(vector).max())
        for name, view in found.views.items():
            assert_close(view, state[name], 1e-10, scale=scale, name=name)
    if numerics == "exact":
        assert len({run[0][1].tobytes() for run in runs}) == 1


def test_dropping_the_last_mini_batch_equals_torch_without_it() -> None:
    x, y = data()
    state = torch_training(1, drop_last=True).state_dict()
    spec = spec_of(last_batch="drop")
    setup = make_setup(spec, arrays(x, y))

    outcome, vector = run_ranks(2, lambda: make_setup(spec, arrays(x, y)))[0]

    assert (outcome.step, outcome.epoch, outcome.reason) == (2 * EPOCHS, EPOCHS, "epochs")
    found = Parameters(setup.model.tensor_shapes, vector)
    for name, view in found.views.items():
        assert_close(view, state[name], 1e-10, scale=float(np.abs(vector).max()), name=name)


@pytest.mark.parametrize("exchange", ["sharded", "allreduce", "overlapped"])
def test_parts_without_rows_do_not_change_the_statistics(exchange: str) -> None:
    x, y = data()
    spec = document(batch_size=16, epochs=EPOCHS, lanes=4, accumulate=8, exchange=exchange)
    plain = document(batch_size=16, epochs=EPOCHS, lanes=4, exchange=exchange)

    parts = run_ranks(2, lambda: make_setup(spec, arrays(x, y)))[0]
    whole = run_ranks(2, lambda: make_setup(plain, arrays(x, y)))[0]

    assert parts[0].status == "succeeded"
    assert_close(parts[1], whole[1], 1e-12)
