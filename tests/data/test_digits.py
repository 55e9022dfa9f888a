"""The embedded data set is the published one, and its parts never change."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets

from dbp.data import digits as digits_module
from dbp.data.digits import Digits


def read(part: str) -> tuple[np.ndarray, np.ndarray]:
    dataset = Digits(part=part).open()  # type: ignore[arg-type]
    inputs = np.empty((len(dataset), 8, 8), np.uint8)
    targets = np.empty(len(dataset), np.int64)
    indices = np.arange(len(dataset))
    dataset.take_inputs(indices, inputs)
    dataset.take_targets(indices, targets)
    return inputs, targets


def test_all_of_it_equals_the_copy_in_scikit_learn() -> None:
    oracle = sklearn.datasets.load_digits()

    inputs, targets = read("all")

    np.testing.assert_array_equal(inputs, oracle.images)
    np.testing.assert_array_equal(targets, oracle.target)


def test_its_size_and_class_counts_are_the_published_ones() -> None:
    inputs, targets = read("all")

    assert inputs.shape == (1797, 8, 8)
    assert (inputs.min(), inputs.max()) == (0, 16)
    assert np.bincount(targets).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert hashlib.sha256(inputs.tobytes()).hexdigest().startswith("8f26b2bd9d135c25")


def test_the_parts_are_disjoint_and_fixed() -> None:
    inputs, targets = read("all")
    test = np.arange(1797) % 5 == 0

    assert test.sum() == 360
    for part, chosen in (("test", test), ("train", ~test)):
        part_inputs, part_targets = read(part)
        np.testing.assert_array_equal(part_inputs, inputs[chosen])
        np.testing.assert_array_equal(part_targets, targets[chosen])


@pytest.mark.parametrize(("part", "samples"), [("train", 1437), ("test", 360), ("all", 1797)])
def test_inspect_returns_the_info_of_the_open_data_set(part: str, samples: int) -> None:
    info = Digits(part=part).inspect()  # type: ignore[arg-type]

    assert info.samples == samples
    assert (info.input_shape, info.input_dtype) == ((8, 8), np.dtype(np.uint8))
    assert (info.target_kind, info.target_shape) == ("class", ())
    assert info.class_names == tuple("0123456789")
    assert info.input_maximum == 16.0


def test_the_files_are_small_and_name_their_source_and_licence() -> None:
    folder = Path(digits_module.__file__).with_name("embedded")

    assert sum(path.stat().st_size for path in folder.iterdir()) < 100_000
    notice = (folder / "README.md").read_text()
    assert "Alpaydin" in notice
    assert "CC BY 4.0" in notice
