"""Classes that do not fit a model or the training set are refused with file and place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.data.classes import align_classes, check_targets, count_classes
from dbp.data.csv import CSV
from dbp.data.dataset import Dataset
from dbp.data.digits import Digits
from dbp.data.subset import Subset
from dbp.errors import InvalidData
from tests.cost import cheap


def named(tmp_path: Path, name: str, labels: list[str]) -> Dataset:
    path = tmp_path / name
    path.write_text("x,label\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels)))
    return CSV(path=str(path)).open()


def classes(dataset: Dataset) -> list[int]:
    out = np.empty(len(dataset), np.int64)
    dataset.take_targets(np.arange(len(dataset)), out)
    return out.tolist()


def test_targets_within_the_classes_pass() -> None:
    check_targets(Digits().open(), 10)


def test_the_first_target_outside_is_named_with_place_and_range() -> None:
    dataset = arrays(np.zeros((4, 1)), np.array([0, 2, 3, 9]))

    with pytest.raises(InvalidData, match=r"targets: sample 2: class 3, .*3 classes.*0 to 2"):
        check_targets(dataset, 3)


def test_in_a_subset_the_place_is_that_in_the_file() -> None:
    dataset = Subset(arrays(np.zeros((4, 1)), np.array([0, 0, 0, 9])), np.array([3, 0]))

    with pytest.raises(InvalidData, match="targets: sample 3: class 9"):
        check_targets(dataset, 2)


def test_in_a_text_file_the_place_is_a_line(tmp_path: Path) -> None:
    dataset = named(tmp_path, "train.csv", ["0", "1", "5"])

    with pytest.raises(InvalidData, match=r"train\.csv:4: class 5"):
        check_targets(dataset, 2)


def test_count_classes() -> None:
    assert count_classes(arrays(np.zeros((4, 1)), np.array([0, 2, 2, 2]))).tolist() == [1, 0, 3]
    assert count_classes(Digits(part="all").open()).sum() == 1797


def test_many_names_are_aligned_in_little_time(tmp_path: Path) -> None:
    names = [f"{number:05}{'x' * 100}" for number in range(20_000)]
    test = named(tmp_path, "test.csv", names)
    with cheap():
        aligned = align_classes(test, ("0", *names))

    assert classes(aligned)[::4999] == [1, 5000, 9999, 14998, 19997]


def test_names_are_numbered_as_in_the_training_set(tmp_path: Path) -> None:
    training = named(tmp_path, "train.csv", ["cat", "dog", "owl"])
    test = named(tmp_path, "test.csv", ["owl", "cat", "owl"])
    assert classes(test) == [1, 0, 1]

    aligned = align_classes(test, training.info.class_names)

    assert classes(aligned) == [2, 0, 2]
    assert aligned.info.class_names == ("cat", "dog", "owl")
    assert aligned.locate_target(0) == test.locate_target(0)
    inputs = np.empty((3, 1))
    aligned.take_inputs(np.arange(3), inputs)
    assert inputs[:, 0].tolist() == [0, 1, 2]


def test_a_class_name_that_the_training_set_lacks_is_refused(tmp_path: Path) -> None:
    training = named(tmp_path, "train.csv", ["cat", "dog"])
    test = named(tmp_path, "test.csv", ["dog", "cats"])

    with pytest.raises(InvalidData, match=r"test\.csv:3: class 'cats' .*did you mean 'cat'"):
        align_classes(test, training.info.class_names)


def test_class_names_against_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"test\.csv:2: classes have names here \(cat\)"):
        align_classes(named(tmp_path, "test.csv", ["cat"]), ())


def test_numbers_against_names_are_refused(tmp_path: Path) -> None:
    numbers = arrays(np.zeros((4, 1)), np.arange(4) % 2)

    with pytest.raises(InvalidData, match=r"numbers here, but names in .*\(cat, dog\)"):
        align_classes(numbers, ("cat", "dog"))


def test_data_sets_that_agree_are_returned_unchanged(tmp_path: Path) -> None:
    digits = Digits().open()
    numbers = arrays(np.zeros((4, 1)), np.arange(4))

    assert align_classes(digits, digits.info.class_names) is digits
    assert align_classes(digits, ()) is digits
    assert align_classes(numbers, digits.info.class_names) is numbers
