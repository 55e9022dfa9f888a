"""The benchmark itself: every variant runs, what it computes is what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from dbp.job.spec.resolve import resolve
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.train.run_spec import run_spec
from tests.benchmarks import training
from tests.benchmarks.torch_worker import make_model, make_optimizer
from tests.benchmarks.workloads import VARIANTS, WORKLOADS
from tests.closeness import assert_close
from tests.deadline import DEADLINE

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_dbp_and_torch_train_the_same_model(name: str) -> None:
    workload = WORKLOADS[name]
    resolved = run_spec(resolve(workload.spec("/nowhere", 1, {})))
    model = Model(resolved.layers, (784,), dtype="float32", loss=resolved.loss)

    other = make_model(workload)

    assert [tuple(tensor.shape) for tensor in other.parameters()] == list(
        model.tensor_shapes.values()
    )
    assert list(dict(other.named_parameters())) == list(model.tensor_shapes)
    assert sum(tensor.numel() for tensor in other.parameters()) == workload.parameters
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == [type(layer).__name__.replace("Linear", "Dense") for layer in other]
    assert type(make_optimizer(workload, other)).__name__.lower() in ("sgd", "adam")


def test_their_first_step_is_the_same() -> None:
    workload = WORKLOADS["small"]
    resolved = run_spec(resolve(workload.spec("/nowhere", 1, {})))
    model = Model(resolved.layers, (784,), dtype="float32", loss=resolved.loss)
    parameters = Parameters.zeros(model.tensor_shapes, model.dtype)
    other = make_model(workload)
    for name, tensor in other.named_parameters():
        parameters[name][...] = tensor.detach().numpy()
    x = np.random.default_rng(0).random((32, 784), np.float32)
    y = np.arange(32) % 10
    gradients = Parameters.zeros(model.parameter_shapes, model.dtype)

    loss = model.forward_backward(parameters, gradients, x, y)
    expected = torch.nn.functional.cross_entropy(
        other(torch.from_numpy(x)), torch.from_numpy(y), reduction="sum"
    )
    torch.autograd.backward([expected])

    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for name, tensor in other.named_parameters():
        assert tensor.grad is not None
        assert_close(gradients[name], tensor.grad.numpy(), 1e-5, name=name)


def test_rows_hold_medians_ratios_and_spread() -> None:
    found = {
        "small": {"fast": [0.002, 0.004, 0.003], "torch DDP": [0.006] * 3, "products": [0.001]}
    }

    fast, reference, products = training.rows(found)

    assert fast["milliseconds"] == pytest.approx(3)
    assert (fast["least"], fast["most"]) == pytest.approx((2, 4))
    assert fast["spread"] == pytest.approx(2 / 3)
    assert fast["ratio"] == pytest.approx(0.5)
    assert fast["products"] == pytest.approx(1 / 3)
    assert reference["ratio"] == products["products"] == 1
    (alone,) = training.rows({"small": {"fast": [0.002]}})
    assert (alone["ratio"], alone["products"]) == (None, None)


def test_bad_arguments_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        training.parse(["--rounds", "0"])

    assert "--rounds and --steps must be at least 1" in capsys.readouterr().err


def test_a_run_that_fails_is_reported_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = [sys.executable, "-c", "import time; time.sleep(60)"]
    broken = [sys.executable, "-c", "raise SystemExit('a fault of this process')"]
    monkeypatch.setattr(training, "commands", lambda *_: [alive, broken])
    before = psutil.Process().children()

    with pytest.raises(RuntimeError, match="a fault of this process"):
        training.measure("small", VARIANTS["fast"], tmp_path, 1, 0)

    assert psutil.Process().children() == before


@pytest.mark.full
def test_every_variant_runs() -> None:
    command = [
        sys.executable, "-m", "tests.benchmarks.training", "--rounds", "1", "--steps", "3",
        "--warmup", "1", "--workload", "small", "--output", "json",
    ]  # fmt: skip

    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=DEADLINE,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [row["variant"] for row in report["table"]] == list(VARIANTS)
    assert all(0 < row["milliseconds"] < 1000 for row in report["table"])
    assert report["machine"]["ranks"] == 2
