"""Estimates of memory are lower bounds that real runs meet; refusals list their parts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.errors import WrongState
from dbp.job.spec.resolve import resolve
from dbp.nn.conv2d import Conv2D
from dbp.train.check.inspection import Inspected, inspect
from dbp.train.check.memory import MemoryEstimate, check_memory, estimate_memory

MB = 10**6
TEACHER = {"kind": "teacher", "inputs": 1000, "outputs": 10, "samples": 4096}

# Runs a command, and prints the kB of its largest process. A process that is started from here
# counts this one's memory as its own, so that the tests before it would be measured, too.
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def document(optimizer: str = "adam", units: int = 5000, **train: Any) -> dict[str, Any]:
    layers = [{"kind": "dense", "units": units}, "relu", {"kind": "dense", "units": 10}]
    return {
        "name": "estimated",
        "data": {"train": TEACHER},
        "model": {"layers": layers, "loss": "softmax_cross_entropy"},
        "optimizer": optimizer,
        "train": {"steps": 3, "batch_size": 64, "lanes": 2, **train},
    }


def inspected(**options: Any) -> Inspected:
    return inspect(resolve(document(**options)))


def estimate(workers: int = 1, **options: Any) -> MemoryEstimate:
    return estimate_memory(inspected(**options), workers)


VECTOR = (1000 * 5000 + 5000 + 5000 * 10 + 10) * 4


def test_parts_are_those_of_the_model_and_its_optimizer() -> None:
    parts = estimate().parts

    assert parts["parameters"] == VECTOR
    assert parts["gradients"] == 2 * VECTOR
    assert parts["optimizer state"] == 2 * VECTOR
    assert parts["activations"] == 64 * (1000 + 5000 + 5000 + 10) * 4
    assert parts["data"] == 0


def test_activations_are_those_of_the_lanes_that_a_rank_computes_at_once() -> None:
    row = (1000 + 5000 + 5000 + 10) * 4
    spec = document(lanes=8)
    spec["model"]["layers"].insert(1, {"kind": "layer_norm"})  # does not join lanes

    assert estimate(1, lanes=8).parts["activations"] == 64 * row
    assert estimate(4, lanes=8).parts["activations"] == 4 * 16 * row
    assert estimate(1, lanes=8, accumulate=2).parts["activations"] == 4 * row
    one_by_one = estimate_memory(inspect(resolve(spec)), 1)
    assert one_by_one.parts["activations"] == 8 * (row + 5000 * 4)


def test_the_copies_of_convolutions_count_until_they_are_too_large_to_be_kept(
    tmp_path: Path,
) -> None:
    np.savez(tmp_path / "images.npz", x=np.zeros((1000, 1, 8, 8), "f4"), y=np.arange(1000) % 10)
    data = {"kind": "npz", "path": str(tmp_path / "images.npz"), "inputs": "x", "targets": "y"}

    def activations(batch_size: int, workers: int = 1) -> int:
        spec = document(lanes=4, batch_size=batch_size)
        spec["data"]["train"] = data
        layers = [{"kind": "conv2d", "filters": 2}, {"kind": "flatten"}]
        spec["model"]["layers"] = [*layers, {"kind": "dense", "units": 10}]
        found = estimate_memory(inspect(resolve(spec)), workers)
        return found.parts["activations"]

    row = 4 * (64 + 72 + 72 + 10)
    copies = 4 * (8 * 3 * 6)  # rows, columns of the window, width
    assert activations(64) == 64 * (row + copies)
    assert activations(64, workers=2) == 64 * (row + copies)
    assert activations(1000) == 1000 * (row + copies)
    large = Conv2D(filters=2).kept_bytes((1, 8, 8), (4000, 20_000), 4)
    assert large == 0


def test_shards_of_the_optimizer_state_are_counted_once() -> None:
    assert estimate(4, lanes=4).parts["optimizer state"] == 2 * VECTOR
    assert estimate(4, lanes=4, exchange="allreduce").parts["optimizer state"] == 8 * VECTOR


def test_the_average_and_the_type_count() -> None:
    assert estimate(average=0.9).parts["parameters"] == 2 * VECTOR
    shared, copied = estimate(3, average=0.9), estimate(3, average=0.9, exchange="allreduce")
    assert (shared.parts["parameters"], copied.parts["parameters"]) == (4 * VECTOR, 6 * VECTOR)
    assert estimate(dtype="float64").parts["parameters"] == 2 * VECTOR


def test_text_is_held_by_every_rank(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("0.5,1.5,0\n" * 1000)
    spec = document()
    spec["data"]["train"] = {"kind": "csv", "path": str(path)}

    parts = estimate_memory(inspect(resolve(spec)), 2).parts

    assert parts["data"] == 2 * 1000 * 2 * 8


def test_a_run_that_cannot_fit_is_refused_with_the_parts_of_the_estimate() -> None:
    with pytest.raises(WrongState) as refused:
        check_memory(inspected(), 2, 200 * MB)

    assert str(refused.value) == (
        "memory: 2 workers of this job take at least 207 MB (20.2 MB of parameters, 80.9 MB of "
        "gradients, 40.4 MB of optimizer state, 2.8 MB of activations, 62.9 MB of processes), "
        "the machine of the service has 200 MB; choose a smaller model, or a machine with more "
        "memory"
    )


@pytest.mark.parametrize("limit", [None, 230 * MB])
def test_a_run_that_may_fit_is_accepted(limit: int | None) -> None:
    check_memory(inspected(), 2, limit)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("workers", "options"),
    [(1, {"optimizer": "sgd"}), (2, {})],
)
def test_real_runs_take_at_least_the_estimate_and_not_far_more(
    tmp_path: Path, workers: int, options: dict[str, Any]
) -> None:
    spec = document(units=20_000, **options)
    (tmp_path / "job.json").write_text(json.dumps(spec))
    each = estimate_memory(inspect(resolve(spec)), workers).total / workers

    command = [sys.executable, "-m", "dbp", "train", str(tmp_path / "job.json")]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command, "-n", str(workers), "--run", "run"],
        cwd=tmp_path, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    peak = int(done.stdout) * 1024  # of the largest process

    assert each <= peak
    assert peak <= 4 * each
