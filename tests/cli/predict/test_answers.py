"""What `dbp predict` answers and writes, without the command around it."""

from __future__ import annotations

import csv
import errno
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

from dbp.cli.predict.answers import (
    answers,
    check_probabilities,
    data_set,
    given_answers,
    write_answers,
)
from dbp.cli.predict.files import InputFile
from dbp.cli.predict.rows import FileRows, InputRows
from dbp.client.inference import Prediction
from dbp.errors import InvalidData, InvalidInput
from dbp.job.snapshot import encode_header, manifest_of
from dbp.job.spec.resolve import resolve
from dbp.train.model.trained_model import TrainedModel
from tests.train.setups import document


def here(rows: npt.NDArray[Any]) -> InputRows:
    """Rows that were read from a file of this name."""
    return InputRows(rows, (FileRows(InputFile(Path("here"), "npy"), 0, None),))


def saved_model(
    *,
    loss: str = "softmax_cross_entropy",
    more: str = "",
    scaling: str = '{"kind": "none"}',
    weight: float = 1.0,
    classes: str = '["cat", "dog"]',
) -> TrainedModel:
    """A dense layer whose outputs are its inputs, times the weight; ``more`` layers."""
    layers = f'[{{"kind": "dense", "units": 4}}{more}]'
    strings = {
        "dbp.model": f'{{"layers": {layers}, "loss": {{"kind": "{loss}"}}}}',
        "dbp.input_shape": "[4]",
        "dbp.scaling": scaling,
        "dbp.classes": classes,
    }
    header = encode_header(manifest_of({"0.weight": (4, 4), "0.bias": (4,)}, "F32", strings))
    data = np.diag([weight] * 4).astype(np.float32).tobytes() + bytes(16)
    return TrainedModel.from_bytes(header + data, "here")


def test_scores_of_a_hinge_are_no_probabilities() -> None:
    rows = here(np.eye(4, dtype=np.float32))

    assert answers(saved_model(loss="hinge"), rows, proba=False)[:2].tolist() == ["cat", "dog"]
    with pytest.raises(InvalidInput, match="the model gives scores"):
        answers(saved_model(loss="hinge"), rows, proba=True)


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "mean_squared_error", "unheard_of"])
def test_the_loss_of_a_job_decides_about_its_probabilities(loss: str) -> None:
    check_probabilities({"model": {"loss": {"kind": loss}}})

    with pytest.raises(InvalidInput, match="gives scores, no probabilities"):
        check_probabilities({"model": {"loss": {"kind": "hinge"}}})


def test_a_class_that_has_no_name_is_reported_by_its_number() -> None:
    model = saved_model()

    found = answers(model, here(np.eye(4, dtype=np.float32)), proba=False)

    assert found.tolist() == ["cat", "dog", "2", "3"]


def test_names_of_classes_come_back_from_a_csv_file(tmp_path: Path) -> None:
    names = ["ox, big", 'a "dog"', "k\u00e4t", "\u732b"]

    write_answers(tmp_path / "out.csv", np.array(names))

    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert [row for (row,) in csv.reader(file)] == names


def test_values_of_any_shape_are_one_line_a_row(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)

    write_answers(tmp_path / "out.csv", values)

    found = np.loadtxt(tmp_path / "out.csv", delimiter=",", dtype=np.float32)
    np.testing.assert_array_equal(found, values.reshape(5, 6))


@pytest.mark.parametrize("form", ["npy", "csv"])
def test_answers_that_cannot_be_written_whole_leave_the_old_ones(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"out.{form}"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_answers(path, np.arange(6))

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", ["npy", "csv"])
def test_answers_replace_the_target_of_a_link(tmp_path: Path, form: str) -> None:
    path, link = tmp_path / f"out.{form}", tmp_path / f"link.{form}"
    link.symlink_to(path)

    write_answers(link, np.arange(3))

    assert link.is_symlink()
    found = np.load(path) if form == "npy" else np.loadtxt(path)
    np.testing.assert_array_equal(found, [0, 1, 2])


@pytest.mark.parametrize("more", ["", ', {"kind": "sigmoid"}'], ids=["plain", "saturating"])
def test_inputs_too_large_for_the_model_are_reported_without_a_warning(more: str) -> None:
    model = saved_model(more=more)
    rows = np.ones((600, 4))
    rows[500, 2] = -1e300

    with pytest.raises(
        InvalidData,
        match=r"here: row 500 .*\[2\]: -1e\+300 is too large for the model.s float32",
    ):
        answers(model, here(rows), proba=False)


def test_large_inputs_that_scaling_makes_fit_are_answered() -> None:
    model = saved_model(scaling='{"kind": "unit", "scale": 1e300}', classes="[]")

    found = answers(model, here(np.array([[1e300, 3e300, 1, 1]])), proba=False)

    assert found.tolist() == [1]


@pytest.mark.parametrize("proba", [False, True])
def test_an_answer_that_is_no_number_is_reported_without_a_warning(proba: bool) -> None:
    rows = np.ones((3, 4), np.float32)
    rows[1] = 3e38

    with pytest.raises(InvalidData, match=r"here: row 1 .*too large for float32"):
        answers(saved_model(weight=3e38), here(rows * [[0], [1], [1]]), proba=proba)


def test_a_service_s_answer_that_is_no_number_is_reported() -> None:
    outputs = np.array([[0.5, 0.5], [np.nan, np.nan]], np.float32)
    prediction = Prediction(3, 70, "d", outputs, np.array([0, 0]), None)

    with pytest.raises(InvalidData, match=r"here: row 1 .*float32"):
        given_answers(prediction, here(outputs), proba=False)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [("poisson", np.exp([1.0, 2, 0, 0])), ("mean_squared_error", np.array([1.0, 2, 0, 0]))],
)
def test_values_are_those_that_a_service_gives(
    loss: str, expected: npt.NDArray[np.float64]
) -> None:
    found = answers(saved_model(loss=loss), here(np.array([[1.0, 2, 0, 0]])), proba=False)

    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_data_set_that_cannot_be_read_is_named_by_its_field(
    tmp_path: Path, part: Literal["train", "validation", "test"]
) -> None:
    spec = document()
    for name in ("train", part):
        spec["data"][name] = {"kind": "csv", "path": str(tmp_path / f"{name}.csv")}
    (tmp_path / f"{part}.csv").write_bytes("a,b\n1,2\n".encode("utf-16"))

    with pytest.raises(InvalidData, match=rf"^data\.{part}: .*UTF-16"):
        data_set(resolve(spec), part)
