"""Numbers that overflow in the model's type are refused before training, with their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dbp.data import representable
from dbp.data.array_dataset import arrays
from dbp.data.batch_source import BatchSource
from dbp.data.csv import CSV
from dbp.data.dataset import Array, DataInfo, Dataset, Indices
from dbp.data.npz import NPZ
from dbp.data.preprocessing import Scaling
from dbp.data.representable import check_representable
from dbp.data.teacher import Teacher
from dbp.errors import InvalidData
from dbp.job.spec.resolve import resolve
from dbp.train.build import build
from dbp.train.check.inspection import inspect
from tests.train.setups import document

X = np.arange(36.0).reshape(12, 3) + 0.5
GOOD = ["a,b,c,y,w"] + [",".join(map(str, [*row, i % 3, 1])) for i, row in enumerate(X)]


def job(folder: Path, part: str = "train", **changes: Any) -> dict[str, Any]:
    """A classification of good.csv in float32, with rows.csv as the set ``part``."""
    (folder / "good.csv").write_text("\n".join(GOOD))
    spec = document(dtype="float32")
    spec["data"] = {}
    for name in {"train", part}:
        file = folder / ("rows.csv" if name == part else "good.csv")
        spec["data"][name] = {"kind": "csv", "path": str(file), "target": "y", "weight": "w"}
    spec["data"] |= changes
    return spec


def with_cell(folder: Path, line: int, column: int, text: str) -> None:
    rows = [row.split(",") for row in GOOD]
    rows[line - 1][column] = text
    (folder / "rows.csv").write_text("\n".join(map(",".join, rows)))


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_an_input_of_a_text_is_named_by_file_line_and_column(tmp_path: Path, part: str) -> None:
    with_cell(tmp_path, 7, 1, "1e39")

    with pytest.raises(InvalidData) as raised:
        build(inspect(resolve(job(tmp_path, part))))

    assert str(raised.value) == (
        f"data.{part}: {tmp_path}/rows.csv:7: column 'b': 1e+39 is too large for float32; "
        'scale the inputs (data.scale), or train in float64 (train.dtype = "float64")'
    )


def test_held_out_samples_keep_their_line(tmp_path: Path) -> None:
    with_cell(tmp_path, 7, 1, "1e39")

    with pytest.raises(InvalidData, match=r"rows\.csv:7: column 'b'"):
        build(inspect(resolve(job(tmp_path, validation={"fraction": 0.25}))))


def test_a_weight_is_named_by_file_line_and_column(tmp_path: Path) -> None:
    with_cell(tmp_path, 4, 4, "1e39")

    with pytest.raises(
        InvalidData, match=r"rows\.csv:4: column 'w': weight 1e\+39 is too large"
    ):
        build(inspect(resolve(job(tmp_path))))


def test_a_target_is_named_by_file_line_and_column(tmp_path: Path) -> None:
    with_cell(tmp_path, 4, 3, "1e39")
    spec = job(tmp_path)
    spec["model"] = {"layers": [{"kind": "dense", "units": 1}], "loss": "mean_squared_error"}

    with pytest.raises(
        InvalidData, match=r"rows\.csv:4: column 'y': target 1e\+39 is too larg"
    ):
        build(inspect(resolve(spec)))


def test_columns_in_another_order_and_parts_are_located_in_their_file(tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_text("a,b,y\n1,2,0\n3,4,1\n")
    (tmp_path / "1.csv").write_text("b,a,y\n1,2,0\n3,1e39,1\n")
    dataset = CSV(path=f"{tmp_path}/*.csv").open()

    with pytest.raises(InvalidData, match=r"1\.csv:3: column 'a': 1e\+39"):
        check_representable(dataset, np.float32, inputs=True)


def test_arrays_and_parquet_name_sample_and_element_or_column(tmp_path: Path) -> None:
    inputs = X.copy()
    inputs[5, 2] = 1e39
    with pytest.raises(InvalidData, match=r"inputs: sample 5, element \[2\]: 1e\+39"):
        check_representable(arrays(inputs, np.zeros(12, int)), np.float32, inputs=True)
    path = tmp_path / "x.parquet"
    pq.write_table(
        pa.table({n: inputs[:, i] for i, n in enumerate("abc")} | {"y": X[:, 0]}), path
    )
    spec = document(classes=1, loss="mean_squared_error", dtype="float32")
    spec["data"] = {"train": {"kind": "parquet", "path": str(path), "target": "y"}}
    with pytest.raises(InvalidData, match=r"x\.parquet\[.*\]: sample 5: column 'c': 1e\+39"):
        build(inspect(resolve(spec)))


def test_large_values_are_accepted_if_they_fit_are_scaled_or_float64(tmp_path: Path) -> None:
    with_cell(tmp_path, 7, 1, "3.4e38")
    build(inspect(resolve(job(tmp_path))))
    with_cell(tmp_path, 7, 1, "1e39")
    build(inspect(resolve(job(tmp_path, scale="unit"))))
    wide = job(tmp_path)
    wide["train"]["dtype"] = "float64"
    build(inspect(resolve(wide)))


def test_inputs_too_large_to_be_read_first_are_located_in_their_mini_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = X.copy()
    inputs[5, 2] = 1e39
    dataset = arrays(inputs, np.zeros(12, int))
    monkeypatch.setattr(representable, "IN_MEMORY_BYTES", 10)
    check_representable(dataset, np.float32, inputs=True)
    batch = BatchSource(dataset, dtype="float32")

    with pytest.raises(InvalidData, match=r"sample 5, element \[2\]: .*scale the inputs"):
        batch.fill(np.array([7, 5]), *batch.allocate(2))


@pytest.mark.parametrize("scale", [1.0, 1e30], ids=["scaled too large", "large before scaling"])
def test_an_input_too_large_for_its_scaling_is_located(scale: float) -> None:
    inputs = X.copy()
    inputs[5, 2] = 1e39
    scaling = Scaling("standard", mean=np.zeros(3), scale=np.full(3, scale))
    batch = BatchSource(arrays(inputs, np.zeros(12, int)), scaling=scaling, dtype="float32")

    with pytest.raises(InvalidData, match=r"sample 5, element \[2\]: .*divide the inputs by a"):
        batch.fill(np.array([7, 5]), *batch.allocate(2))


def test_whole_numbers_that_float64_rounds_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,id,y\n1.5,9007199254740993,0\n2.5,9007199254740995,1\n")

    (note,) = CSV(path=str(path)).open().info.notes

    path.write_text("a,b,y\n1.5,1e20,0\n2.5,1e17,1\n3.5,0.5,1\n")
    assert CSV(path=str(path)).open().info.notes == ()
    assert note == (
        "column 'id' holds whole numbers above 2**53, which are rounded; if it is an "
        "identifier and no input, leave it out"
    )


def test_computed_and_very_many_targets_are_not_read_first() -> None:
    class Unreadable(Dataset):
        def __init__(self, dtype: str | None, samples: int) -> None:
            self.info = DataInfo(
                samples, (2,), np.dtype("f8"), (), "values", weighted=True,
                target_dtype=None if dtype is None else np.dtype(dtype),
            )  # fmt: skip

        def take_inputs(self, indices: Indices, out: Array) -> None:
            raise AssertionError

        take_targets = take_inputs

    check_representable(Unreadable("f8", 10**12), np.float32, inputs=True)
    computed = Teacher(samples=10**9, target_kind="values").open()
    assert computed.info.target_dtype is None
    check_representable(computed, np.float32, inputs=True)


def test_parts_of_which_one_holds_float64_are_read_first(tmp_path: Path) -> None:
    for number, targets in enumerate((np.arange(3), np.array([0.5, 1e39, 2]))):
        np.savez(tmp_path / f"{number}.npz", x=X[:3], y=targets)
    dataset = NPZ(path=f"{tmp_path}/*.npz").open()

    with pytest.raises(InvalidData, match=r"1\.npz\[y\]: sample 1: target 1e\+39"):
        check_representable(dataset, np.float32, inputs=True)
