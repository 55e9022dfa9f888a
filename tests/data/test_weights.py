"""Weights of samples: read beside inputs and targets, checked, and carried by every wrapper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.data.batch_source import BatchSource
from dbp.data.classes import align_classes
from dbp.data.csv import CSV
from dbp.data.dataset import Dataset, Reader
from dbp.data.npy import NPY
from dbp.data.npz import NPZ
from dbp.data.subset import Subset
from dbp.errors import InvalidData

INPUTS = np.arange(8.0).reshape(4, 2)
LABELS = np.array([0, 1, 1, 0])
WEIGHTS = np.array([0.5, 0.0, 2.0, 1.25])


def weights_of(dataset: Dataset) -> list[float]:
    out = np.empty(len(dataset))
    dataset.take_weights(np.arange(len(dataset)), out)
    return out.tolist()


def npy_reader(folder: Path, weights: np.ndarray) -> Reader:
    np.save(folder / "x.npy", INPUTS)
    np.save(folder / "y.npy", LABELS)
    np.save(folder / "w.npy", weights)
    return NPY(
        inputs=str(folder / "x.npy"),
        targets=str(folder / "y.npy"),
        weights=str(folder / "w.npy"),
    )


def npz_reader(folder: Path, weights: np.ndarray) -> Reader:
    np.savez(folder / "all.npz", x=INPUTS, y=LABELS, w=weights)
    return NPZ(path=str(folder / "all.npz"), weights="w")


def csv_reader(folder: Path, weights: np.ndarray) -> Reader:
    lines = [f"{x[0]},{w},{x[1]},{y}" for x, y, w in zip(INPUTS, LABELS, weights, strict=True)]
    (folder / "all.csv").write_text("\n".join(["a,w,b,y", *lines]))
    return CSV(path=str(folder / "all.csv"), weight="w")


@pytest.mark.parametrize("reader", [npy_reader, npz_reader, csv_reader])
class TestReaders:
    def test_weights_stand_beside_inputs_and_targets(self, tmp_path: Path, reader) -> None:  # type: ignore[no-untyped-def]
        component = reader(tmp_path, WEIGHTS)
        dataset = component.open()
        inputs, targets = np.empty((4, 2)), np.empty(4, np.int64)
        dataset.take_inputs(np.arange(4), inputs)
        dataset.take_targets(np.arange(4), targets)

        assert dataset.info == component.inspect()
        assert dataset.info.weighted
        assert weights_of(dataset) == WEIGHTS.tolist()
        np.testing.assert_array_equal(inputs, INPUTS)
        np.testing.assert_array_equal(targets, LABELS)

    @pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
    def test_a_bad_weight_is_reported_with_its_place(  # type: ignore[no-untyped-def]
        self, tmp_path: Path, reader, bad: float
    ) -> None:
        weights = WEIGHTS.copy()
        weights[2] = bad

        with pytest.raises(InvalidData, match=r"sample 2: |all\.csv:4: "):
            reader(tmp_path, weights).open()


def test_csv_weight_by_position(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("1,2,3,0\n4,5,6,1\n")

    dataset = CSV(path=str(tmp_path / "n.csv"), weight=1, header="no").open()

    assert weights_of(dataset) == [2, 5]
    assert dataset.info.input_shape == (2,)


@pytest.mark.parametrize(
    ("weight", "message"),
    [("weigth", "did you mean 'weight'"), ("label", "both"), (9, "no column 9")],
)
def test_csv_weight_that_cannot_be(tmp_path: Path, weight: str | int, message: str) -> None:
    (tmp_path / "n.csv").write_text("a,weight,label\n1,2,0\n")

    with pytest.raises(InvalidData, match=message):
        CSV(path=str(tmp_path / "n.csv"), weight=weight).open()


@pytest.mark.parametrize("shape", [(3,), (4, 2), ()])
def test_weights_of_another_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidData, match=r"w\.npy: shape .* expected one weight per sample"):
        npy_reader(tmp_path, np.ones(shape)).open()


def test_wrappers_pass_weights_on(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("1,0.5,cat\n2,3,dog\n4,0,cat\n")
    dataset = CSV(path=str(tmp_path / "n.csv"), weight=1, header="no").open()

    assert weights_of(Subset(dataset, np.array([2, 1]))) == [0, 3]
    assert weights_of(align_classes(dataset, ("ape", "cat", "dog"))) == [0.5, 3, 0]


def test_a_batch_has_its_weights() -> None:
    batch = BatchSource(arrays(INPUTS, LABELS, weights=WEIGHTS), dtype="float32")
    weights = batch.allocate_weights(2)
    assert weights is not None

    batch.fill_weights(np.array([3, 0]), weights)

    assert weights.dtype == np.float32
    assert weights.tolist() == [1.25, 0.5]


def test_without_weights_there_are_none() -> None:
    dataset = arrays(INPUTS, LABELS)

    assert BatchSource(dataset, dtype="float32").allocate_weights(2) is None
    with pytest.raises(TypeError, match="no weights"):
        dataset.take_weights(np.arange(1), np.empty(1))
