"""Parameter files between `dbp train` and PyTorch, both ways, unchanged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dbp.train.model.trained_model import TrainedModel
from tests.closeness import assert_close
from tests.deadline import DEADLINE

SAMPLES = 60


@dataclass(frozen=True)
class Case:
    """One network in both languages; its inputs' shape, its type, and how equal it is."""

    shape: tuple[int, ...]
    layers: list[Any]
    network: Callable[[], nn.Sequential]
    dtype: str
    tolerance: float


CASES = {
    "perceptron": Case(
        (7,),
        [{"kind": "dense", "units": 9, "activation": "relu"}, "layer_norm",
         {"kind": "dropout", "rate": 0.3}, {"kind": "dense", "units": 3, "bias": False}],
        lambda: nn.Sequential(
            nn.Linear(7, 9), nn.ReLU(), nn.LayerNorm(9), nn.Dropout(0.3),
            nn.Linear(9, 3, bias=False),
        ),
        "float64", 1e-12,
    ),
    "convolutions": Case(
        (2, 8, 6),
        [{"kind": "conv2d", "filters": 6, "kernel": [3, 2], "bias": False}, "batch_norm",
         "relu", "max_pool2d",
         {"kind": "conv2d", "filters": 4, "kernel": 2, "padding": 1, "groups": 2},
         "silu", {"kind": "batch_norm", "affine": False}, "flatten",
         {"kind": "dense", "units": 3}],
        lambda: nn.Sequential(
            nn.Conv2d(2, 6, (3, 2), bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 4, 2, padding=1, groups=2), nn.SiLU(),
            nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(48, 3),
        ),
        "float32", 1e-5,
    ),
}  # fmt: skip


def samples(case: Case) -> tuple[Any, Any]:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(SAMPLES, *case.shape)).astype(case.dtype)
    return x, rng.integers(0, 3, SAMPLES)


def run_train(folder: Path, case: Case, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `dbp train` over the samples, in this folder."""
    x, y = samples(case)
    np.savez(folder / "data.npz", x=x, y=y)
    spec = {
        "name": "files",
        "data": {"train": {"kind": "npz", "path": "data.npz"}},
        "model": {"layers": case.layers, "loss": "softmax_cross_entropy"},
        "optimizer": {"kind": "sgd", "learning_rate": 0.1},
        "train": {"dtype": case.dtype, "batch_size": SAMPLES, **options},
    }
    (folder / "job.json").write_text(json.dumps(spec))
    return subprocess.run(
        [sys.executable, "-m", "dbp", "train", "job.json", "--run", "run", "--quiet"],
        cwd=folder, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip


def train(folder: Path, case: Case, **options: Any) -> Path:
    """Run `dbp train`, which must succeed; returns the run's parameter file."""
    done = run_train(folder, case, **options)
    assert done.returncode == 0, done.stderr
    return folder / "run" / "parameters.safetensors"


def outputs(network: nn.Sequential, case: Case) -> Any:
    network.eval()
    with torch.no_grad():
        return network(torch.tensor(samples(case)[0])).numpy()


@pytest.mark.parametrize("name", sorted(CASES))
def test_pytorch_loads_a_runs_file_unchanged(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path = train(tmp_path, case, epochs=5)
    network = case.network().to(getattr(torch, case.dtype))

    network.load_state_dict(load_file(path), strict=True)

    saved = TrainedModel.load(path)
    found = saved.predict(samples(case)[0])
    assert_close(found, outputs(network, case), case.tolerance)
    assert np.ptp(found, axis=0).min() > 0.1  # the outputs differ between samples


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_run_starts_from_a_file_of_pytorchs(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    case = Case(
        case.shape,
        [layer for layer in case.layers if not _drops(layer)],  # draws are each library's own
        lambda: nn.Sequential(*(m for m in CASES[name].network() if type(m) is not nn.Dropout)),
        case.dtype,
        case.tolerance,
    )
    torch.manual_seed(8)
    network = case.network().to(getattr(torch, case.dtype))
    x, y = (torch.tensor(array) for array in samples(case))
    network(x)  # in training: running statistics move away from zero and one
    save_file(network.state_dict(), tmp_path / "start.safetensors")

    path = train(tmp_path, case, steps=1, initial_parameters="start.safetensors")

    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    nn.CrossEntropyLoss()(network(x), y).backward()
    optimizer.step()
    found = load_file(path)
    expected = network.state_dict()
    assert set(expected) - set(found) == {n for n in expected if n.endswith("batches_tracked")}
    for tensor, value in found.items():
        assert_close(value.numpy(), expected[tensor].numpy(), case.tolerance, name=tensor)


def _drops(layer: Any) -> bool:
    return isinstance(layer, dict) and layer["kind"] == "dropout"


def test_a_file_that_does_not_fit_is_reported_before_anything_is_written(
    tmp_path: Path,
) -> None:
    case = CASES["perceptron"]
    save_file(nn.Linear(7, 9).double().state_dict(), tmp_path / "start.safetensors")

    done = run_train(tmp_path, case, epochs=1, initial_parameters="start.safetensors")

    assert done.returncode == 2
    for name in ("0.weight", "0.bias", "2.weight", "2.bias", "4.weight"):
        assert f"has no tensor '{name}'" in done.stderr
    assert "has 'weight', which the model lacks, did you mean '4.weight'?" in done.stderr
    assert not (tmp_path / "run").exists()
