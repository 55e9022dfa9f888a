"""What `dbp predict` reads, without the command around it."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from dbp.cli.predict.files import find_files
from dbp.cli.predict.rows import DEFAULTS, InputOptions, InputRows, read_rows
from dbp.cli.predict.tables import TextOptions
from dbp.column_names import POSITIONAL
from dbp.errors import InvalidData, InvalidInput


def read(*names: Path | str, options: InputOptions = DEFAULTS) -> InputRows:
    """The rows of files, for a model whose inputs have no names."""
    return read_rows(find_files(names), POSITIONAL, options)


@pytest.mark.parametrize("header", ["", "speed\n"], ids=["no header", "header"])
def test_a_csv_file_of_one_column_is_read(tmp_path: Path, header: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{header}1\n2.5\n")

    np.testing.assert_array_equal(read(path).shaped((1,)).rows, [[1.0], [2.5]])


def test_rows_of_a_table_are_not_taken_for_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("5,6,0.5\n7,8,1.5\n")

    with pytest.raises(InvalidData, match=r"the model takes \(2,\); leave targets"):
        read(path).shaped((2,))


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
        ("1;2\n3;4\n", r"separated by ','; is the delimiter another one \(--delimiter ';'\)\?"),
        ("1\t2\n3\t4\n", r"is the delimiter another one \(--delimiter '\\t'\)\?"),
        ("1 2\n", "a header or a sample.*separated by ','; is the delimiter another one"),
        ("# by x\n1,2\n", "expected 1 as in the first line; is line 1 a comment"),
        ("# by x\n", "separated by ','; is line 1 a comment"),
        ("a b\n", "a header and no samples, separated by ','; is the delimiter another one"),
        ("a,b\n1,dog\n", r"rows\.csv:2: column 'b': 'dog' is not a number"),
        ("a,b\n", "a header and no samples"),
        ("1,inf\n", "expected a finite number"),
        ("1,2,3\n", r"rows of shape \(3,\); the model takes \(2,\)"),
    ],
)
def test_a_csv_file_that_does_not_fit_is_reported(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)

    with pytest.raises(InvalidData, match=told):
        read(path).shaped((2,))


def test_the_first_line_of_a_file_of_another_delimiter_is_reported_in_short(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(";".join(f"feature_{i}" for i in range(50)) + "\n" + "1;" * 49 + "1\n")

    with pytest.raises(InvalidData) as raised:
        read(path).shaped((50,))

    told = str(raised.value)
    assert "rows.csv:2: column 'feature_0;feature_1;" in told
    assert "is the delimiter another one (--delimiter ';')?" in told
    assert len(told.removeprefix(str(tmp_path))) < 250


def test_a_header_is_refused_for_a_file_without_lines(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((2, 2)))

    with pytest.raises(InvalidInput, match=r"--header, .*rows\.npy is no \.csv"):
        read(tmp_path / "rows.npy", options=InputOptions(TextOptions("no")))


@pytest.mark.parametrize("type_", ["BF16", "F16", "F32", "U8", "I64"])
def test_a_tensor_of_a_safetensors_file(tmp_path: Path, type_: str) -> None:
    dtype = {"BF16": ml_dtypes.bfloat16, "F16": "f2", "F32": "f4", "U8": "u1", "I64": "i8"}
    rows = np.arange(12).reshape(3, 4).astype(dtype[type_])
    path = tmp_path / "rows.safetensors"
    save_file({"inputs": rows, "other": np.zeros(2, np.float32)}, path)

    found = read(path).rows

    assert found.dtype == (np.float32 if type_ == "BF16" else rows.dtype)
    np.testing.assert_array_equal(found, np.arange(12).reshape(3, 4))


def test_bfloat16_is_read_to_the_bit(tmp_path: Path) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    bits = bits[bits & 0x7F80 != 0x7F80]  # but NaN and infinity
    values = bits.view(ml_dtypes.bfloat16)
    save_file({"x": values}, tmp_path / "rows.safetensors")

    found = read(tmp_path / "rows.safetensors").rows

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
        read(path)


@pytest.mark.parametrize("more", [b"\0", b"\0" * 16, None], ids=["a byte", "two rows", "less"])
def test_a_safetensors_file_of_another_size_is_refused(
    tmp_path: Path, more: bytes | None
) -> None:
    path = tmp_path / "rows.safetensors"
    save_file({"x": np.zeros((3, 2), np.float32)}, path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] if more is None else content + more)

    with pytest.raises(InvalidData, match=r"too (short|long): .* announces 24 bytes"):
        read(path)


def test_safetensors_that_hold_no_inputs_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "rows.safetensors"
    save_file({"input": np.zeros(2), "targets": np.zeros(2)}, path)
    with pytest.raises(InvalidData, match=r"which array holds .*: --array input$"):
        read(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidInput, match="safetensors"):
        read(path)
    with pytest.raises(InvalidData, match="no such file"):
        read(tmp_path / "absent.safetensors")
    save_file({"x": np.array(1, np.float32)}, path)
    with pytest.raises(InvalidData, match="holds one number, no rows"):
        read(path)


def test_arrays_without_rows_are_refused_in_every_format(tmp_path: Path) -> None:
    empty = np.zeros((0, 3), np.float32)
    np.save(tmp_path / "x.npy", empty)
    np.savez(tmp_path / "x.npz", x=empty)
    save_file({"x": empty}, tmp_path / "x.safetensors")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = empty
    (tmp_path / "x.idx").write_bytes(b"\0\0\x08\x02" + b"\0" * 7 + b"\x03")
    np.save(tmp_path / "full.npy", np.zeros((2, 3)))

    for name in ("x.npy", "x.npz", "x.safetensors", "x.h5", "x.idx"):
        with pytest.raises(InvalidData, match=rf"{name}.*: there are no rows in it"):
            read(tmp_path / "full.npy", tmp_path / name)


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

    found = read(tmp_path / "x.npy").shaped(shape).rows

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
        ((5, 40), (5,), r"are samples the last axis.*; leave the targets out$"),
        ((4,), (4,), r"is it one row\? Add the axis of rows: numpy\.expand_dims\(x, 0\)$"),
        (
            (8, 8),
            (1, 8, 8),
            r"is it one row\? Add the axis of rows: numpy\.expand_dims\(x, 0\)$",
        ),
        ((2, 5), (4,), r"the model takes \(4,\); leave the targets out$"),
    ],
)
def test_rows_whose_axes_are_in_another_order_are_refused(
    tmp_path: Path, stored: tuple[int, ...], shape: tuple[int, ...], told: str
) -> None:
    np.save(tmp_path / "x.npy", np.ones(stored))

    with pytest.raises(InvalidData, match=rf"x\.npy: .*{told}"):
        read(tmp_path / "x.npy").shaped(shape)


X = np.arange(12.0).reshape(4, 3)
Y = np.array([0, 1, 2, 0])


def write(folder: Path, name: str) -> Path:
    """A training file, with targets where the format holds both."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        np.savetxt(path, X, delimiter="," if path.suffix == ".csv" else "\t")
    elif path.suffix == ".parquet":
        pq.write_table(pa.table({name: X[:, i] for i, name in enumerate("abc")}), path)
    elif path.suffix == ".npz":
        np.savez_compressed(path, x=X, y=Y)
    elif path.suffix in (".h5", ".mat"):
        with h5py.File(path, "w") as file:
            file["x"], file["y"] = X, Y
    elif path.suffix == ".safetensors":
        save_file({"x": X, "y": Y}, path)
    elif path.suffix == ".npy":
        np.save(path, X)
    else:
        numbers = b"\0\0\x0e\2\0\0\0\4\0\0\0\3" + X.astype(">f8").tobytes()
        path.write_bytes(gzip.compress(numbers) if name.endswith("gz") else numbers)
    return path


@pytest.mark.parametrize(
    "name",
    ["x.csv", "x.tsv", "x.TSV", "x.txt", "x", "x.parquet", "x.npy", "x.npz", "x.h5", "x.mat",
     "x.safetensors", "x-idx2-double", "x-idx2-double.gz", "x.idx"],
)  # fmt: skip
def test_every_format_that_trains_is_read(tmp_path: Path, name: str) -> None:
    found = read(write(tmp_path, name)).shaped((3,))

    np.testing.assert_array_equal(found.rows, X)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "npy", "npz", "h5", "safetensors"])
def test_the_content_decides_where_the_name_says_nothing(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, f"x.{suffix}").rename(tmp_path / "rows.data")

    np.testing.assert_array_equal(read(path).shaped((3,)).rows, X)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npy", "npz", "h5", "safetensors", "idx"])
def test_a_name_that_says_another_format_than_the_content_is_refused(
    tmp_path: Path, suffix: str
) -> None:
    for other in ("csv", "parquet", "npy", "npz", "h5", "safetensors"):
        if other != suffix:
            path = write(tmp_path, f"x.{suffix}").rename(tmp_path / f"rows.{other}")

            with pytest.raises(
                InvalidData,
                match=rf"is named \.{other}, but looks.*rename it to rows\.{suffix}$",
            ):
                read(path)


def test_formats_that_are_not_read_are_named_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(b"1,2\n"))
    with pytest.raises(InvalidData, match=r"looks like gzip.* > .*rows\.csv$"):
        read(path)
    path.write_bytes(bytes(99))
    with pytest.raises(InvalidData, match=r"neither its name nor its content .* \.parquet"):
        read(path)
    with pytest.raises(InvalidInput, match="files are read, not standard input"):
        read("-")


def test_the_rows_of_several_files_and_patterns_follow_each_other(tmp_path: Path) -> None:
    for name in ("part-1.csv", "part-0.npy", "part-2.csv", "more.tsv"):
        write(tmp_path, name)

    found = read(tmp_path / "more.tsv", f"{tmp_path}/part-*.*")

    assert [part.file.path.name for part in found.parts] == [
        "more.tsv", "part-0.npy", "part-1.csv", "part-2.csv",
    ]  # fmt: skip
    np.testing.assert_array_equal(found.rows, np.concatenate([X] * 4))


def test_files_of_unlike_rows_are_refused_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", X[:, :2])

    with pytest.raises(
        InvalidData, match=r"b\.npy: rows of shape \(2,\), .*a\.npy have \(3,\)"
    ):
        read(f"{tmp_path}/*.npy")


@pytest.mark.parametrize("kind", ["npz", "h5", "safetensors"])
def test_one_of_several_arrays_is_chosen_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    arrays = {"train": X, "test": X[:2]}
    if kind == "h5":
        with h5py.File(path, "w") as file:
            file.update(arrays)
    elif kind == "npz":
        np.savez(path, train=X, test=X[:2])
    else:
        save_file(arrays, path)

    np.testing.assert_array_equal(read(path, options=InputOptions(array="test")).rows, X[:2])
    with pytest.raises(InvalidData, match=r"which array .*test.*: --array t(est|rain)"):
        read(path)
    with pytest.raises(InvalidData, match="'tset', did you mean 'test'"):
        read(path, options=InputOptions(array="tset"))


def test_an_array_is_not_chosen_where_there_is_one_without_a_name(tmp_path: Path) -> None:
    for name in ("x.npy", "x.csv"):
        with pytest.raises(InvalidInput, match=rf"--array: .*{name}"):
            read(write(tmp_path, name), options=InputOptions(array="x"))


def test_an_error_about_a_row_names_its_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("5,7\n")
    (tmp_path / "b.csv").write_text("\n5,7\n\n3,4\n")
    np.save(tmp_path / "c.npy", np.ones((2, 2)))
    rows = read(f"{tmp_path}/?.*")

    def place(row: int) -> str:
        error = InvalidData(f"row {row} (counted from 0), input 'b': bad", row=row)
        return str(rows.located(error)).removeprefix(f"{tmp_path}/")

    assert [place(row) for row in (0, 2, 4)] == [
        "a.csv:1: input 'b': bad",
        "b.csv:4: input 'b': bad",
        "c.npy: row 1 (counted from 0), input 'b': bad",
    ]
