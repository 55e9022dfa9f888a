"""A checkpoint's data are recognized by content, whatever stores them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.data.array_dataset import arrays
from dbp.data.dataset import Dataset
from dbp.job.spec.resolve import resolve
from dbp.train.build import build
from dbp.train.check.inspection import inspect
from dbp.train.state import data_identity
from dbp.train.state.data_identity import differences, identity_of
from tests.train.setups import document, make_setup

THEN = "the checkpoint was written with"


def numbers(rows: int = 200, columns: int = 3, seed: int = 1) -> Any:
    return np.random.default_rng(seed).normal(size=(rows, columns))


def identity(dataset: Dataset, validation: Dataset | None = None) -> Any:
    return identity_of(make_setup(document(), dataset, validation=validation))


def test_equal_data_have_equal_identities() -> None:
    x, y = numbers(), np.arange(200) % 3

    assert differences(identity(arrays(x, y)), identity(arrays(x.copy(), y.copy()))) == ()


@pytest.mark.parametrize("row", [0, 1, 63, 127, 198, 199])
@pytest.mark.parametrize("part", ["inputs", "targets", "weights"])
def test_every_changed_value_is_found(row: int, part: str) -> None:
    whole = {"inputs": numbers(), "targets": np.arange(200) % 3, "weights": np.ones(200)}
    before = identity(arrays(whole["inputs"], whole["targets"], weights=whole["weights"]))
    whole[part][row] += 1
    after = identity(arrays(whole["inputs"], whole["targets"], weights=whole["weights"]))

    (line,) = differences(before, after)

    assert line.startswith("data.train: same shape, other values among rows ")
    first, _, last = line.removesuffix(" (from 0)").partition("rows ")[2].partition(" to ")
    assert int(first) <= row <= int(last)


def test_swapped_rows_are_found() -> None:
    x, y = numbers(), np.arange(200) % 3
    order = np.arange(200)
    order[[17, 18]] = [18, 17]

    assert differences(identity(arrays(x, y)), identity(arrays(x[order], y[order])))


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (arrays(numbers(100), np.arange(100) % 3), f"data.train: 100 rows; {THEN} 200"),
        (arrays(numbers(1), np.arange(1)), f"data.train: 1 row; {THEN} 200"),
        (
            arrays(numbers(columns=4), np.arange(200) % 3),
            f"data.train: inputs of shape (4,); {THEN} (3,)",
        ),
        (
            arrays(numbers().astype(np.float32), np.arange(200) % 3),
            f"data.train: inputs of type float32; {THEN} float64",
        ),
        (
            arrays(numbers(), np.arange(200) % 3, weights=np.ones(200)),
            f"data.train: weights: yes; {THEN} no",
        ),
    ],
)
def test_another_shape_is_named(after: Dataset, expected: str) -> None:
    before = identity(arrays(numbers(), np.arange(200) % 3))

    assert differences(before, identity(after)) == (expected,)


def test_the_order_of_columns_and_the_names_of_classes_count() -> None:
    before = identity(named(("a", "b", "c"), ("cat", "dog", "owl")))

    columns = differences(before, identity(named(("b", "a", "c"), ("cat", "dog", "owl"))))
    classes = differences(before, identity(named(("a", "b", "c"), ("cat", "dog", "elk"))))

    assert columns == (f"data.train: columns b, a, c; {THEN} a, b, c",)
    assert classes == (f"data.train: classes cat, dog, elk; {THEN} cat, dog, owl",)


def named(columns: tuple[str, ...], classes: tuple[str, ...]) -> Dataset:
    dataset = arrays(numbers(), np.arange(200) % 3)
    dataset.info = dataclasses.replace(dataset.info, input_names=columns, class_names=classes)
    return dataset


def test_large_data_are_sampled_from_the_first_row_to_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(data_identity, "FILE_BYTES", (1 << 12, 64))
    monkeypatch.setattr(data_identity, "GENERATED_BYTES", (1 << 12, 64))
    x, y = numbers(10_000), np.arange(10_000) % 3
    before = identity(arrays(x, y))

    blocks = before["data.train"]["blocks"]
    assert len(blocks) == 64
    assert (blocks[0][0], blocks[-1][1]) == (0, 10_000)
    assert sum(stop - start for start, stop, _ in blocks) == 64 * 2
    for row in (0, 9_999):
        changed = x.copy()
        changed[row] += 1
        assert differences(before, identity(arrays(changed, y)))


def test_files_are_recognized_by_content_wherever_they_lie(tmp_path: Path) -> None:
    x, y = numbers(), np.arange(200) % 3
    save(tmp_path, x, y)
    before = of_files(tmp_path, validation=True)
    os.utime(tmp_path / "x.npy", (1, 1))
    assert differences(before, of_files(tmp_path, validation=True)) == ()

    (tmp_path / "moved").mkdir()
    save(tmp_path / "moved", x, y)
    assert differences(before, of_files(tmp_path / "moved", validation=True)) == ()

    save(tmp_path, x[:100], y[:100])
    assert differences(before, of_files(tmp_path, validation=True)) == (
        f"data.train: 100 rows; {THEN} 200",
        f"data.validation: 100 rows; {THEN} 200",
    )
    assert differences(before, of_files(tmp_path, validation=False))[-1] == (
        "data.validation: none; the checkpoint was written with one"
    )


def test_a_new_part_of_a_pattern_changes_the_data(tmp_path: Path) -> None:
    save(tmp_path, numbers(), np.arange(200) % 3, "-1")
    before = of_files(tmp_path, "-*")
    save(tmp_path, numbers(), np.arange(200) % 3, "-2")

    assert differences(before, of_files(tmp_path, "-*")) == (
        f"data.train: 400 rows; {THEN} 200",
    )


def test_all_rows_count_before_some_are_held_out(tmp_path: Path) -> None:
    save(tmp_path, numbers(), np.arange(200) % 3)
    spec = file_spec(tmp_path, "")
    spec["data"]["validation"] = {"fraction": 0.5}

    found = identity_of(build(inspect(resolve(spec))))

    assert list(found) == ["data.train"]
    assert found["data.train"]["samples"] == 200


def save(folder: Path, x: Any, y: Any, suffix: str = "") -> None:
    np.save(folder / f"x{suffix}.npy", x)
    np.save(folder / f"y{suffix}.npy", y)


def file_spec(folder: Path, suffix: str) -> dict[str, Any]:
    spec = document()
    reader = {"kind": "npy", "inputs": f"{folder}/x{suffix}.npy"}
    reader["targets"] = f"{folder}/y{suffix}.npy"
    spec["data"] = {"train": reader}
    return spec


def of_files(folder: Path, suffix: str = "", *, validation: bool = False) -> Any:
    spec = file_spec(folder, suffix)
    if validation:
        spec["data"]["validation"] = spec["data"]["train"]
    return identity_of(build(inspect(resolve(spec))))
