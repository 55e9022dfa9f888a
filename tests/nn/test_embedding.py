"""Embedding: against PyTorch, with inputs that are no ids, over ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dbp.data.array_dataset import arrays
from dbp.errors import InvalidSpec
from dbp.job.spec.resolve import resolve
from dbp.nn.embedding import Embedding
from dbp.nn.layer import Workspace
from tests.closeness import assert_close
from tests.train.setups import document, make_setup, run_ranks

EMBEDDED: list[dict[str, Any]] = [
    {"kind": "embedding", "count": 6, "dimension": 4},
    {"kind": "flatten"},
    {"kind": "dense", "units": 3},
]


def test_embedding_computes_what_torch_computes() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 4))
    x = rng.integers(0, 6, (50, 3))  # every id many times
    dy = rng.normal(size=(50, 3, 4))
    module = torch.nn.Embedding(6, 4, dtype=torch.float64)
    module.load_state_dict({"weight": torch.tensor(weight)})
    expected = module(torch.tensor(x))
    expected.backward(torch.tensor(dy))

    layer, gradient = Embedding(count=6, dimension=4), np.full((6, 4), np.nan)
    y, backward = layer.forward({"weight": weight}, x.astype(float), Workspace(np.float64))
    backward(dy, {"weight": gradient})

    np.testing.assert_array_equal(y, expected.detach().numpy())
    assert module.weight.grad is not None
    assert_close(gradient, module.weight.grad.numpy(), 1e-13)


@pytest.mark.parametrize("bad", [-1.0, 6.0, 0.5, np.nan, np.inf, 1e30])
def test_an_input_that_is_no_id_gives_nan_and_leaves_the_others_unchanged(bad: float) -> None:
    layer, weight = Embedding(count=6, dimension=4), np.ones((6, 4))
    x = np.array([[1.0, bad], [2.0, 3.0]])

    with np.errstate(all="ignore"):
        y, _ = layer.forward({"weight": weight}, x, Workspace(np.float64))

    assert np.isnan(y[0, 1]).all()
    assert (y[[0, 1, 1], [0, 0, 1]] == 1).all()


def spec() -> dict[str, Any]:
    found = document(numerics="exact", batch_size=16, epochs=2)
    found["model"]["layers"] = EMBEDDED
    return found


def test_the_bits_do_not_depend_on_the_ranks() -> None:
    rng = np.random.default_rng(1)
    data = arrays(rng.integers(0, 6, (75, 5)).astype(float), rng.integers(0, 3, 75))

    found = [run_ranks(size, lambda: make_setup(spec(), data)) for size in (1, 2, 3, 4)]

    assert len({vector.tobytes() for run in found for _, vector in run}) == 1
    assert all(outcome.status == "succeeded" for run in found for outcome, _ in run)


def test_a_sample_that_is_no_id_fails_the_step_on_every_rank_and_is_named() -> None:
    x = np.random.default_rng(1).integers(0, 6, (75, 5)).astype(float)
    x[17, 2] = 6.0
    data = arrays(x, np.zeros(75, np.int64))

    for outcome, _ in run_ranks(2, lambda: make_setup(spec(), data)):
        assert outcome.reason == "NON_FINITE"
        assert "17" in outcome.message


def test_ids_are_not_scaled() -> None:
    found = spec()
    found["data"]["scale"] = "unit"

    with pytest.raises(InvalidSpec, match=r'data\.scale: must be "none" where the first layer'):
        resolve(found)
