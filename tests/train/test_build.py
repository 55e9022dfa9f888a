from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.data.dataset import Dataset, Indices
from dbp.errors import DbpError, InvalidData, InvalidInput, InvalidSpec
from dbp.job.spec.resolve import resolve
from dbp.parallel.communicator import Communicator
from dbp.parallel.threads import run_threads
from dbp.train.build import build, fit_scaling, prepare
from dbp.train.check.inspection import inspect
from tests.train.setups import Array, document


def npz(path: Path, x: Any, y: Any) -> dict[str, str]:
    np.savez(path, x=x, y=y)
    return {"kind": "npz", "path": str(path)}


def spec_over(train: dict[str, Any], **changes: Any) -> dict[str, Any]:
    spec = document(**{k: v for k, v in changes.items() if k not in {"data"}})
    spec["data"] = {"train": train} | changes.get("data", {})
    return spec


@pytest.fixture
def train(tmp_path: Path) -> dict[str, str]:
    x = np.arange(40.0).reshape(20, 2)
    return npz(tmp_path / "train.npz", x, np.arange(20) % 3)


def test_scaling_is_fitted_only_on_training_samples(tmp_path: Path) -> None:
    x = np.zeros((10, 1))
    x[3] = 1000.0
    spec = spec_over(
        npz(tmp_path / "a.npz", x, np.arange(10) % 3),
        data={"validation": {"fraction": 0.5}, "scale": "unit"},
    )
    held_out = [
        seed
        for seed in range(20)
        if float(build(inspect(resolve(spec | {"seed": seed}))).scaling.scale) == 1.0
    ]

    # For some seeds the one large input is held out and must not be seen by the fit.
    assert 0 < len(held_out) < 20


def test_held_out_samples_are_no_longer_training_samples(train: dict[str, str]) -> None:
    setup = build(
        inspect(
            resolve(spec_over(train, data={"validation": {"fraction": 0.25}}, batch_size=4))
        )
    )

    assert setup.validation is not None
    assert (len(setup.train), len(setup.validation)) == (15, 5)
    assert (setup.plan.samples, setup.plan.steps_per_epoch) == (15, 4)


@pytest.mark.parametrize(
    ("changes", "error", "pattern"),
    [
        ({"classes": 2}, InvalidData, r"data\.train: .*train\.npz.*class 2, .*allowed 0 to 1"),
        ({"loss": "mean_squared_error"}, InvalidSpec, r"model\.loss: .*learns from values"),
        ({"numerics": "exact", "lanes": 32, "batch_size": 64}, InvalidSpec,
         r"data\.train: holds 20 training samples, but 32 are needed: one for each lane"),
    ],
    ids=["labels", "loss", "lanes"],
)  # fmt: skip
def test_data_that_do_not_fit_are_refused_with_the_field(
    train: dict[str, str], changes: dict[str, Any], error: type[DbpError], pattern: str
) -> None:
    with pytest.raises(error, match=pattern):
        build(inspect(resolve(spec_over(train, **changes))))


def weighted(path: Path, weights: Any) -> dict[str, str]:
    count = len(weights)
    np.savez(path, x=np.arange(2.0 * count).reshape(-1, 2), y=np.arange(count) % 3, w=weights)
    return {"kind": "npz", "path": str(path), "weights": "w"}


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("weight", [0.0, 1e-60])  # which float32 takes for 0
def test_a_data_set_whose_weights_are_all_zero_is_refused(
    tmp_path: Path, part: str, weight: float
) -> None:
    data = {"train": weighted(tmp_path / "train.npz", np.ones(12))}
    data[part] = weighted(tmp_path / f"{part}.npz", np.full(12, weight))
    spec = spec_over(data["train"], data=data, dtype="float32")

    with pytest.raises(
        InvalidData, match=rf"^data\.{part}: the weight of all 12 samples is 0, so that there"
    ):
        build(inspect(resolve(spec)))


def test_a_single_weight_is_enough(tmp_path: Path) -> None:
    train = weighted(tmp_path / "train.npz", np.eye(1, 12, 5)[0])

    assert len(build(inspect(resolve(spec_over(train)))).train) == 12


def test_samples_held_out_must_count_too(tmp_path: Path) -> None:
    train = weighted(tmp_path / "train.npz", np.eye(1, 12, 5)[0])
    spec = spec_over(train, data={"validation": {"fraction": 0.25}})

    with pytest.raises(InvalidData, match=r"^data\.(train|validation): the weight of all"):
        build(inspect(resolve(spec)))


def test_weights_of_classes_that_are_all_zero_in_a_data_set_are_refused(
    train: dict[str, str], tmp_path: Path
) -> None:
    test = npz(tmp_path / "test.npz", np.zeros((4, 2)), np.full(4, 2))
    spec = spec_over(train, data={"test": test})
    loss = {"kind": "softmax_cross_entropy", "class_weights": [1.0, 1.0, 0.0]}
    spec["model"]["loss"] = loss

    with pytest.raises(
        InvalidData, match=r"^data\.test: the weight of all 4 samples is 0.*model\.loss"
    ):
        build(inspect(resolve(spec)))


@pytest.mark.parametrize("part", ["validation", "test"])
def test_inputs_of_another_shape_are_refused(
    train: dict[str, str], tmp_path: Path, part: str
) -> None:
    other = npz(tmp_path / "other.npz", np.zeros((4, 3)), np.zeros(4, np.int64))
    spec = spec_over(train, data={part: other})

    with pytest.raises(InvalidData, match=rf"data\.{part}: inputs of shape \(3,\), .*\(2,\)"):
        inspect(resolve(spec))


def test_more_workers_than_samples_are_refused(train: dict[str, str]) -> None:
    resolved = resolve(spec_over(train, numerics="fast"))
    inspect(resolved, workers=20)

    with pytest.raises(InvalidSpec, match="20 training samples, but 21 are needed"):
        inspect(resolved, workers=21)


def test_more_workers_than_lanes_are_refused_in_exact_numerics(train: dict[str, str]) -> None:
    resolved = resolve(spec_over(train, numerics="exact", lanes=4))
    inspect(resolved, workers=4)

    with pytest.raises(InvalidSpec, match=r"train\.lanes: .* 4 lanes .* got 5"):
        inspect(resolved, workers=5)


def test_all_missing_files_are_named_at_once(tmp_path: Path) -> None:
    spec = document()
    spec["data"] = {
        part: {"kind": "idx", "inputs": str(tmp_path / f"{part}-i"), "targets": str(
            tmp_path / f"{part}-t")}
        for part in ("train", "test")
    }  # fmt: skip

    with pytest.raises(InvalidData) as caught:
        inspect(resolve(spec))

    text = str(caught.value)
    assert text.startswith("4 files are missing")
    for name in ("train-i", "train-t", "test-i", "test-t"):
        assert str(tmp_path / name) in text
    assert "data.test.targets" in text


def test_a_model_without_parameters_is_refused(train: dict[str, str]) -> None:
    spec = spec_over(train)
    spec["model"]["layers"] = [{"kind": "relu"}]

    with pytest.raises(InvalidSpec, match="no layer has a parameter"):
        inspect(resolve(spec))


def test_ranks_that_share_the_fit_find_the_same_and_fail_together(
    train: dict[str, str], tmp_path: Path
) -> None:
    spec = spec_over(train, data={"scale": "standard"})
    alone = build(inspect(resolve(spec))).scaling.to_json()

    def fit(communicator: Communicator, *, broken: bool) -> str:
        setup = prepare(inspect(resolve(spec)), communicator.size)
        if broken and communicator.rank == 0:  # which reads the only block
            setup = dataclasses.replace(setup, train=Unreadable())
        try:
            return fit_scaling(setup, communicator).scaling.to_json()
        except InvalidInput as error:
            return str(error)

    assert run_threads(3, lambda c: fit(c, broken=False)) == [alone] * 3
    assert run_threads(3, lambda c: fit(c, broken=True)) == ["disk.npy: gone"] * 3


class Unreadable(Dataset):
    """A file system that fails one rank."""

    info = arrays(np.zeros((20, 2)), np.zeros(20, np.int64)).info

    def take_inputs(self, indices: Indices, out: Array) -> None:
        raise InvalidData("disk.npy: gone")

    def take_targets(self, indices: Indices, out: Array) -> None:
        raise InvalidData("disk.npy: gone")
