"""Notes on the data, before training: those of the readers, and images with channels last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.errors import InvalidSpec
from dbp.job.spec.resolve import resolve
from dbp.train.build import build
from dbp.train.check.inspection import inspect

CONV: Any = {"kind": "conv2d", "filters": 2, "kernel": 3}
DENSE: Any = {"kind": "dense", "units": 3}


def spec(folder: Path, layers: list[Any], shape: tuple[int, ...], **reader: Any) -> Any:
    path = folder / "images.npz"
    np.savez(path, x=np.ones((12, *shape)), y=np.arange(12) % 3)
    return resolve(
        {
            "name": "images",
            "data": {"train": {"kind": "npz", "path": str(path), **reader}},
            "model": {"layers": layers, "loss": "softmax_cross_entropy"},
            "optimizer": "sgd",
            "train": {"batch_size": 4, "epochs": 1},
        }
    )


@pytest.mark.parametrize(
    "layers",
    [
        [CONV, "flatten", DENSE],
        ["relu", {"kind": "max_pool2d", "kernel": 2}, "flatten", DENSE],
        [{"kind": "residual", "layers": [{**CONV, "padding": 1, "filters": 16}]}, "flatten",
         DENSE],
    ],
)  # fmt: skip
def test_channels_last_before_layers_that_take_them_first_are_noted(
    tmp_path: Path, layers: list[Any]
) -> None:
    (note,) = inspect(spec(tmp_path, layers, (16, 16, 3))).notes()

    assert note.startswith("data.train: samples of shape (16, 16, 3) look like images")
    assert note.endswith('layout = "NHWC"')


def test_channels_last_that_a_window_does_not_fit_are_refused_with_the_layout(
    tmp_path: Path,
) -> None:
    layers = [CONV, "flatten", DENSE]

    with pytest.raises(InvalidSpec, match=r'does not fit into 1.*\n.*layout = "NHWC"'):
        inspect(spec(tmp_path, layers, (28, 28, 1)))

    assert inspect(spec(tmp_path, layers, (28, 28, 1), layout="NHWC")).notes() == ()


def test_the_layout_that_the_note_names_ends_the_note(tmp_path: Path) -> None:
    inspected = inspect(spec(tmp_path, [CONV, "flatten", DENSE], (16, 16, 3), layout="NHWC"))

    assert inspected.facts.train.input_shape == (3, 16, 16)
    assert inspected.notes() == ()


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([CONV, "flatten", DENSE], (3, 16, 16)),
        ([CONV, "flatten", DENSE], (16, 16, 16)),
        (["flatten", DENSE, "batch_norm", DENSE], (16, 16, 3)),
    ],
)
def test_other_shapes_and_layers_are_not_noted(
    tmp_path: Path, layers: list[Any], shape: tuple[int, ...]
) -> None:
    assert not [n for n in inspect(spec(tmp_path, layers, shape)).notes() if "data." in n]


def test_a_setup_has_the_same_notes(tmp_path: Path) -> None:
    inspected = inspect(spec(tmp_path, [CONV, "flatten", DENSE], (16, 16, 3)))

    assert build(inspected).notes == inspected.notes()


def test_notes_of_readers_name_the_data_set(tmp_path: Path) -> None:
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.csv").write_text("0,1,2\n5,3,0\n7,2,1\n8,8,2\n" * 1)
    document = {
        "name": "t",
        "data": {
            name: {"kind": "csv", "path": str(tmp_path / f"{name}.csv")}
            for name in ("train", "validation", "test")
        },
        "model": {"layers": [DENSE], "loss": "softmax_cross_entropy"},
        "optimizer": "sgd",
        "train": {"batch_size": 3, "epochs": 1, "lanes": 1},
    }
    inspected = inspect(resolve(document))

    found = inspected.notes()

    assert [note.partition(": ")[0] for note in found] == [
        "data.train", "data.validation", "data.test"
    ]  # fmt: skip
    assert build(inspected).notes == found


def test_notes_are_not_repeated_for_held_out_samples(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("0,1,2\n" + "5,3,0\n7,2,1\n8,8,2\n" * 4)
    document = {
        "name": "t",
        "data": {
            "train": {"kind": "csv", "path": str(tmp_path / "t.csv")},
            "validation": {"fraction": 0.25},
        },
        "model": {"layers": [DENSE], "loss": "softmax_cross_entropy"},
        "optimizer": "sgd",
        "train": {"batch_size": 3, "epochs": 1, "lanes": 1},
    }
    inspected = inspect(resolve(document))

    assert len(inspected.notes()) == len(build(inspected).notes) == 1


def test_images_without_channels_before_conv2d_are_refused_with_the_layout_to_type(
    tmp_path: Path,
) -> None:
    layers = [CONV, "flatten", DENSE]

    with pytest.raises(InvalidSpec, match=r"got \(16, 16\); layout = \"NHW\" in data\.train"):
        inspect(spec(tmp_path, layers, (16, 16)))

    found = inspect(spec(tmp_path, layers, (16, 16), layout="NHW"))
    assert found.facts.train.input_shape == (1, 16, 16)


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ("a,b,y\n1,2,.5\n5,7,.5\n", "3,9,.5\n", "no names here and names in data.train"),
        ("3,9,.5\n5,7,.5\n", "a,b,y\n1,2,.5\n", "names here and no names in data.train"),
        ("a,b,y\n1,2,.5\n5,7,.5\n", "b,a,y\n1,2,.5\n", None),
        ("3,9,.5\n5,7,.5\n", "3,9,.5\n", None),
    ],
)
def test_columns_that_only_one_data_set_names_are_noted(
    tmp_path: Path, train: str, test: str, said: str | None
) -> None:
    for name, text in (("train", train), ("test", test)):
        (tmp_path / f"{name}.csv").write_text(text)
    document: Any = {
        "name": "table",
        "data": {
            name: {"kind": "csv", "path": str(tmp_path / f"{name}.csv")}
            for name in ("train", "test")
        },
        "model": {"layers": [{"kind": "dense", "units": 1}], "loss": "mean_squared_error"},
        "optimizer": "sgd",
        "train": {"batch_size": 4, "epochs": 1, "lanes": 1},
    }

    found = inspect(resolve(document)).notes()

    assert len(found) == (said is not None)
    assert all(note.startswith(f"data.test: columns have {said}") for note in found)
