"""What `dbp predict` reads and writes, without the command around it."""

from __future__ import annotations

import csv
import errno
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from dbp.cli.prediction import answers, given_answers, read_inputs, read_rows, write_answers
from dbp.cli.tables import TextOptions
from dbp.client.inference import Prediction
from dbp.errors import InvalidData, InvalidInput
from dbp.job.snapshot import encode_header, manifest_of
from dbp.train.saved import SavedModel


@pytest.mark.parametrize("header", ["", "speed\n"], ids=["no header", "header"])
def test_a_csv_file_of_one_column_is_read(tmp_path: Path, header: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{header}1\n2.5\n")

    np.testing.assert_array_equal(read_inputs(path, (1,)), [[1.0], [2.5]])


def test_rows_of_a_table_are_not_taken_for_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("5,6,0.5\n7,8,1.5\n")

    with pytest.raises(InvalidData, match=r"the model takes \(2,\); leave targets"):
        read_inputs(path, (2,))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2,1\n3,dog\n", r"rows\.csv:2: column 1 \(counted from 0\): 'dog' is not a number"),
        ("1,2\n3,dog\n", r"rows\.csv:2: column '2': 'dog' is not a number"),
        ("1,dog\n", r"rows\.csv:1: column 1 \(counted from 0\): 'dog' is not a number"),
        ("NA,2\n3,4\n", r"rows\.csv:1: column 0 \(counted from 0\): 'NA' is not a number"),
        ("2,NA\n3,4\n", r"rows\.csv:1: column 1 \(counted from 0\): 'NA' is not a number"),
        ("1,\n3,4\n", r"rows\.csv:1: column 1 \(counted from 0\): the cell is empty"),
        ("a,2019\n3,4\n", "only if no input in it is a number, or with --header yes$"),
        ("1;2\n3;4\n", "separated by ','; is the delimiter another one"),
        ("1 2\n", "a header or a sample.*separated by ','; is the delimiter another one"),
        ("a b\n", "a header and no samples, separated by ','; is the delimiter another one"),
        ("a,b\n1,dog\n", r"rows\.csv:2: column 'b': 'dog' is not a number"),
        ("a,b\n", "a header and no samples"),
        ("1,inf\n", "expected a finite number"),
        ("1,2,3\n", r"rows of shape \(3,\); the model takes \(2,\)"),
    ],
)
def test_a_csv_file_that_does_not_fit_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)

    with pytest.raises(InvalidData, match=told):
        read_inputs(path, (2,))


def test_the_first_line_of_a_file_of_another_delimiter_is_told_in_short(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(";".join(f"feature_{i}" for i in range(50)) + "\n" + "1;" * 49 + "1\n")

    with pytest.raises(InvalidData) as raised:
        read_inputs(path, (50,))

    told = str(raised.value)
    assert "rows.csv:2: column 'feature_0;feature_1;" in told
    assert "is the delimiter another one?" in told
    assert len(told.removeprefix(str(tmp_path))) < 250


def test_a_header_is_refused_for_a_file_without_lines(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((2, 2)))

    with pytest.raises(InvalidInput, match=r"--header, .*rows\.npy is no \.csv"):
        read_rows(tmp_path / "rows.npy", text=TextOptions("no"))


def saved_model(
    *,
    loss: str = "softmax_cross_entropy",
    more: str = "",
    scaling: str = '{"kind": "none"}',
    weight: float = 1.0,
    classes: str = '["cat", "dog"]',
) -> SavedModel:
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
    return SavedModel.from_bytes(header + data, "here")


def test_a_class_that_has_no_name_is_told_by_its_number() -> None:
    model = saved_model()

    found = answers(model, np.eye(4, dtype=np.float32), proba=False)

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
def test_answers_replace_what_a_link_names(tmp_path: Path, form: str) -> None:
    path, link = tmp_path / f"out.{form}", tmp_path / f"link.{form}"
    link.symlink_to(path)

    write_answers(link, np.arange(3))

    assert link.is_symlink()
    found = np.load(path) if form == "npy" else np.loadtxt(path)
    np.testing.assert_array_equal(found, [0, 1, 2])


@pytest.mark.parametrize("type_", ["BF16", "F16", "F32", "U8", "I64"])
def test_a_tensor_of_a_safetensors_file(tmp_path: Path, type_: str) -> None:
    dtype = {"BF16": ml_dtypes.bfloat16, "F16": "f2", "F32": "f4", "U8": "u1", "I64": "i8"}
    rows = np.arange(12).reshape(3, 4).astype(dtype[type_])
    path = tmp_path / "rows.safetensors"
    save_file({"inputs": rows, "other": np.zeros(2, np.float32)}, path)

    found = read_rows(path)

    assert found.dtype == (np.float32 if type_ == "BF16" else rows.dtype)
    np.testing.assert_array_equal(found, np.arange(12).reshape(3, 4))


def test_bfloat16_is_read_to_the_bit(tmp_path: Path) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    bits = bits[bits & 0x7F80 != 0x7F80]  # but NaN and infinity
    values = bits.view(ml_dtypes.bfloat16)
    save_file({"x": values}, tmp_path / "rows.safetensors")

    found = read_rows(tmp_path / "rows.safetensors")

    np.testing.assert_array_equal(found.view(np.uint32), bits.astype(np.uint32) << 16)


@pytest.mark.parametrize("type_", ["BF16", "F16", "F32", "F64"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused_in_every_type(
    tmp_path: Path, type_: str, value: float
) -> None:
    dtype = {"BF16": ml_dtypes.bfloat16, "F16": "f2", "F32": "f4", "F64": "f8"}[type_]
    path = tmp_path / "rows.safetensors"
    save_file({"x": np.array([[0, 1], [2, value]]).astype(dtype)}, path)

    with pytest.raises(InvalidData, match=rf"rows\.safetensors: sample 1, .*\[1\]: {value}"):
        read_rows(path)


@pytest.mark.parametrize("more", [b"\0", b"\0" * 16, None], ids=["a byte", "two rows", "less"])
def test_a_safetensors_file_of_another_size_is_refused(
    tmp_path: Path, more: bytes | None
) -> None:
    path = tmp_path / "rows.safetensors"
    save_file({"x": np.zeros((3, 2), np.float32)}, path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] if more is None else content + more)

    with pytest.raises(InvalidData, match=r"too (short|long): .* announces 24 bytes"):
        read_rows(path)


@pytest.mark.parametrize("more", ["", ', {"kind": "sigmoid"}'], ids=["plain", "saturating"])
def test_inputs_too_large_for_the_model_are_told_without_a_warning(more: str) -> None:
    model = saved_model(more=more)
    rows = np.ones((600, 4))
    rows[500, 2] = -1e300

    with pytest.raises(
        InvalidData,
        match=r"here: row 500 .*\[2\]: -1e\+300 is too large for the model.s float32",
    ):
        answers(model, rows, proba=False, source="here")


def test_large_inputs_that_scaling_makes_fit_are_answered() -> None:
    model = saved_model(scaling='{"kind": "unit", "scale": 1e300}', classes="[]")

    found = answers(model, np.array([[1e300, 3e300, 1, 1]]), proba=False)

    assert found.tolist() == [1]


@pytest.mark.parametrize("proba", [False, True])
def test_an_answer_that_is_no_number_is_told_without_a_warning(proba: bool) -> None:
    rows = np.ones((3, 4), np.float32)
    rows[1] = 3e38

    with pytest.raises(InvalidData, match=r"here: row 1 .*too large for float32"):
        answers(saved_model(weight=3e38), rows * [[0], [1], [1]], proba=proba, source="here")


def test_a_service_s_answer_that_is_no_number_is_told() -> None:
    outputs = np.array([[0.5, 0.5], [np.nan, np.nan]], np.float32)
    prediction = Prediction(3, 70, "d", outputs, np.array([0, 0]), None)

    with pytest.raises(InvalidData, match=r"here: row 1 .*float32"):
        given_answers(prediction, proba=False, source="here")


@pytest.mark.parametrize(
    ("loss", "expected"),
    [("poisson", np.exp([1.0, 2, 0, 0])), ("mean_squared_error", np.array([1.0, 2, 0, 0]))],
)
def test_values_are_those_that_a_service_gives(
    loss: str, expected: npt.NDArray[np.float64]
) -> None:
    found = answers(saved_model(loss=loss), np.array([[1.0, 2, 0, 0]]), proba=False)

    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


def test_safetensors_that_hold_no_inputs_are_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.safetensors"
    save_file({"input": np.zeros(2), "targets": np.zeros(2)}, path)
    with pytest.raises(InvalidData, match="no tensor 'inputs', did you mean 'input'"):
        read_rows(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidInput, match="safetensors"):
        read_rows(path)
    with pytest.raises(InvalidData, match="No such file"):
        read_rows(tmp_path / "absent.safetensors")
    save_file({"x": np.array(1, np.float32)}, path)
    with pytest.raises(InvalidData, match="holds one number, no rows"):
        read_rows(path)


@pytest.mark.parametrize(
    ("stored", "shape"),
    [
        ((4, 36), (3, 3, 4)),
        ((4, 3, 3, 4), (36,)),
        ((4, 6, 6), (1, 6, 6)),
        ((4, 6, 6, 1), (6, 6)),
    ],
)
def test_rows_whose_axes_are_in_order_take_the_model_s_shape(
    tmp_path: Path, stored: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    rows = np.arange(144.0).reshape(stored)
    np.save(tmp_path / "x.npy", rows)

    found = read_inputs(tmp_path / "x.npy", shape)

    np.testing.assert_array_equal(found, rows.reshape(4, *shape))


@pytest.mark.parametrize(
    ("stored", "shape", "told"),
    [
        (
            (4, 16, 16, 3),
            (3, 16, 16),
            "put the axes into that order",
        ),
        ((4, 2, 6), (6, 2), "put the axes into that order"),
        ((4, 2, 6), (3, 4), r"rows of shape \(2, 6\); the model takes \(3, 4\)"),
        ((5, 40), (5,), "are samples the last axis"),
    ],
)
def test_rows_whose_axes_are_in_another_order_are_refused(
    tmp_path: Path, stored: tuple[int, ...], shape: tuple[int, ...], told: str
) -> None:
    np.save(tmp_path / "x.npy", np.ones(stored))

    with pytest.raises(InvalidData, match=rf"x\.npy: .*{told}"):
        read_inputs(tmp_path / "x.npy", shape)
