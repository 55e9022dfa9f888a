"""The programs compute the same step: models, initial parameters, first loss and gradient."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dbp.bench import measurement
from dbp.bench.column import ALONE, COLUMNS, MAIN, ONE_CORE
from dbp.bench.figures import Figures
from dbp.bench.measurement import Bench
from dbp.bench.products import allocate, products_of
from dbp.bench.rounds import Settings, measure
from dbp.bench.samples import initial_parameters, make_model, mini_batches
from dbp.bench.torch_peer import make_model as make_torch_model
from dbp.bench.torch_peer import make_optimizer
from dbp.bench.workload import WORKLOADS
from dbp.errors import TrainingFailed
from dbp.nn.parameters import Parameters
from tests.closeness import assert_close

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_dbp_and_torch_train_the_same_model(name: str) -> None:
    workload = WORKLOADS[name]
    model = make_model(workload)

    other = make_torch_model(workload)

    initial = initial_parameters(workload)
    assert list(dict(other.named_parameters())) == list(initial) == list(model.tensor_shapes)
    for key, tensor in other.named_parameters():
        assert tensor.detach().numpy().tobytes() == initial[key].tobytes()
    kinds = [type(layer).__name__.lower() for layer in model.layers]
    assert kinds == [type(layer).__name__.lower().replace("linear", "dense") for layer in other]
    assert type(make_optimizer(workload, other)).__name__.lower() in ("sgd", "adam")


@pytest.mark.parametrize("name", ["small", "lenet"])
def test_their_first_step_is_the_same(name: str) -> None:
    workload = WORKLOADS[name]
    model, other = make_model(workload), make_torch_model(workload)
    parameters = Parameters.zeros(model.tensor_shapes, model.dtype)
    for key, value in initial_parameters(workload).items():
        parameters[key][...] = value
    x = np.random.default_rng(0).random((32, *workload.input_shape), np.float32)
    y = np.arange(32) % 10
    gradients = Parameters.zeros(model.parameter_shapes, model.dtype)

    loss = model.forward_backward(parameters, gradients, x, y)
    expected = torch.nn.functional.cross_entropy(
        other(torch.from_numpy(x)), torch.from_numpy(y), reduction="sum"
    )
    torch.autograd.backward([expected])

    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for key, tensor in other.named_parameters():
        assert tensor.grad is not None
        assert_close(gradients[key], tensor.grad.numpy(), 1e-5, name=key)


def test_mini_batches_are_those_of_epochs_of_the_run() -> None:
    found = list(mini_batches(16 * 8, 8, 17))

    epoch = np.concatenate(found[:16])
    assert sorted(epoch) == list(range(16 * 8))
    assert list(found[16]) != list(found[0])  # another epoch has another order


def test_products_are_those_of_all_layers_with_weights() -> None:
    assert products_of(WORKLOADS["small"], 64) == [(64, 784, 128), (64, 128, 10)]
    assert products_of(WORKLOADS["lenet"], 2) == [
        (2 * 784, 25, 6), (2 * 100, 150, 16), (2, 400, 120), (2, 120, 84), (2, 84, 10),
    ]  # fmt: skip
    (_, _, y, _), (x, *_) = allocate(products_of(WORKLOADS["small"], 64), 0)
    assert x is y  # the outputs of a dense layer are the inputs of the next


def test_a_program_that_fails_is_reported_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    alive = [sys.executable, "-c", "import time; time.sleep(600)"]
    broken = [sys.executable, "-c", "raise SystemExit('a fault of this process')"]
    monkeypatch.setattr(Bench, "_commands", lambda *_: [alive, broken])
    before = psutil.Process().children(recursive=True)

    with Bench.making(tmp_path, 2) as bench:
        with pytest.raises(TrainingFailed, match="exit code 1: a fault of this process"):
            bench.measure("small", COLUMNS["exact"], 1, 0, limit=60)
        monkeypatch.setattr(Bench, "_commands", lambda *_: [alive])
        with pytest.raises(TrainingFailed, match=r"not done after 200 ms"):
            bench.measure("small", COLUMNS["exact"], 1, 0, limit=0.2)

    assert psutil.Process().children(recursive=True) == before


def test_dbp_and_the_products_are_measured_and_train_the_same(tmp_path: Path) -> None:
    with Bench.making(tmp_path, 2) as bench:
        found = measure(
            bench,
            Settings(["small"], ["exact", "fast", "products", ALONE], 1, steps=3, warmup=1),
        )

    figures = Figures.of(found, {}, 2)
    small = figures.workloads["small"].columns
    assert all(column.time is not None for column in small.values()), small
    assert small["exact"].loss == pytest.approx(small["fast"].loss, rel=1e-4)
    assert 0 < (small["exact"].loss or 0) < 3
    assert small[ALONE].loss is None  # it trains on half of each mini-batch
    assert figures.odd_losses() == []


@pytest.mark.full
def test_every_column_trains_the_same(tmp_path: Path) -> None:
    names = [name for name in (*MAIN, *ONE_CORE) if not COLUMNS[name].why_missing()]

    with Bench.making(tmp_path, 2) as bench:
        found = measure(bench, Settings(["lenet"], names, 1, steps=3, warmup=1))

    figures = Figures.of(found, {}, 2)
    assert found.missing == {}
    assert figures.odd_losses() == []


def test_jax_is_asked_for_only_where_it_is_installed() -> None:
    """The modules that list columns load no framework."""
    code = (
        "import sys, dbp.bench.column, dbp.bench.rounds, dbp.bench.table; "
        "print([name for name in ('torch', 'jax') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "processes", "batch_size", "lanes"),
    [("exact", 2, 128, None), ("exact", 6, 128, 8), ("fast", 6, 128, None), (ALONE, 2, 64, 2)],
)
def test_a_job_has_the_lanes_that_its_processes_need(
    name: str, processes: int, batch_size: int, lanes: int | None, tmp_path: Path
) -> None:
    train = measurement._spec("small", tmp_path, COLUMNS[name], processes, 3)["train"]

    assert (train["batch_size"], train.get("lanes")) == (batch_size, lanes)
