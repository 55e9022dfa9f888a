"""The reader of Parquet: values, row groups, damaged files, options."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dbp.data import parquet_table
from dbp.data import rows as rows_module
from dbp.data.parquet import Parquet
from dbp.errors import InvalidData, MissingDependency
from tests.data.parquet_setups import LABELS, NAMES, A, B, read, write


@pytest.mark.usefixtures("limit")
def test_numbers_beside_the_target_are_the_inputs(tmp_path: Path) -> None:
    path = write(tmp_path, a=A, label=LABELS, b=B, flag=B > 0)

    reader = Parquet(path=path, target="label")
    dataset = reader.open()

    assert dataset.info == reader.inspect()
    assert dataset.info.target_kind == "class"
    assert dataset.info.input_dtype == np.dtype(np.float64)
    chosen = [9, 0, 4, 4, 1, 8]
    inputs, targets = read(dataset, chosen)
    np.testing.assert_array_equal(inputs, np.stack([A, B, B > 0], axis=1)[chosen])
    np.testing.assert_array_equal(targets, LABELS[chosen])
    assert dataset.locate_target(4) == f"{path}[label]: sample 4"


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("text", ["plain", "large", "dictionary"])
def test_names_of_classes_are_numbered_in_alphabetical_order(tmp_path: Path, text: str) -> None:
    names = pa.array(NAMES, pa.large_string() if text == "large" else pa.string())
    path = write(tmp_path, a=A, name=names.dictionary_encode() if text[0] == "d" else names)

    reader = Parquet(path=path, target="name")
    dataset = reader.open()

    assert dataset.info == reader.inspect()
    assert dataset.info.class_names == ("Iris", "setosa", "versicolor")
    assert [dataset.info.class_names[int(n)] for n in read(dataset)[1]] == NAMES


@pytest.mark.usefixtures("limit")
def test_inputs_targets_and_weights_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, a=A, b=B, c=A * 2, d=A * 3, w=np.arange(10.0))

    dataset = Parquet(path=path, inputs=("c", "b"), targets=("d", "a"), weight="w").open()

    inputs, targets = read(dataset)
    np.testing.assert_array_equal(inputs, np.stack([A * 2, B], axis=1))
    np.testing.assert_array_equal(targets, np.stack([A * 3, A], axis=1))
    weights = np.empty(10)
    dataset.take_weights(np.arange(10), weights)
    assert weights.tolist() == list(range(10))


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize(
    "dtype", ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
)
@pytest.mark.parametrize("compression", ["NONE", "SNAPPY", "ZSTD"])
def test_every_type_keeps_its_type(tmp_path: Path, dtype: str, compression: str) -> None:
    column = (B > 0) if dtype == "?" else np.abs(B).astype(dtype)
    path = str(tmp_path / "t.parquet")
    table = pa.table({"a": column, "y": LABELS})
    pq.write_table(table, path, row_group_size=4, compression=compression)

    dataset = Parquet(path=path, target="y").open()

    assert dataset.info.input_dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read(dataset)[0][:, 0], column)


def test_a_large_file_is_read_one_row_group_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", 0)
    dataset = Parquet(path=write(tmp_path, a=A, y=A), target="y").open()
    read_groups: list[int] = []
    plain = parquet_table.ParquetTable.read

    def count(self: Any, group: int, column: str) -> Any:
        read_groups.append(group)
        return plain(self, group, column)

    monkeypatch.setattr(parquet_table.ParquetTable, "read", count)
    out = np.empty((4, 1))
    dataset.take_inputs(np.array([7, 0, 6, 1]), out)

    assert read_groups == [0, 2]
    np.testing.assert_array_equal(out[:, 0], A[[7, 0, 6, 1]])


def test_several_threads_may_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", 0)
    values = np.arange(1000.0)
    dataset = Parquet(path=write(tmp_path, rows=50, a=values, y=values), target="y").open()
    wrong: list[int] = []

    def work(seed: int) -> None:
        for _ in range(50):
            chosen = np.random.default_rng(seed).integers(0, 1000, 20)
            if not np.array_equal(read(dataset, chosen)[1], values[chosen]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_without_pyarrow_the_error_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, a=A, y=A)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)

    with pytest.raises(MissingDependency, match=r"pip install 'dbp\[parquet\]'"):
        Parquet(path=path, target="y").open()


NULL = pa.array([1.0, None, *A[2:]])
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "no such target": ({"label": A}, {"target": "lable"}, ["'lable'", "mean 'label'"]),
    "target of dates": (
        {"a": A, "y": LABELS.astype("M8[s]")},
        {"target": "y"},
        ["[y]: is of type timestamp", "expected numbers"],
    ),
    "named input of text": (
        {"a": NAMES, "y": A},
        {"target": "y", "inputs": ("a",)},
        ["[a]: is of type text"],
    ),
    "no inputs": (
        {"a": NAMES, "y": A},
        {"target": "y"},
        ["no columns of numbers beside y", "'a' is of type text"],
    ),
    "two inputs of one name": (
        {"a": A, "b": B, "y": A},
        {"target": "y", "rename": ("a", "a", "y")},
        ["2 columns named 'a'"],
    ),
    "no rows": ({"a": A[:0], "y": A[:0]}, {"target": "y"}, ["no rows"]),
    "null input": ({"a": NULL, "y": A}, {"target": "y"}, ["[a]: sample 1: null"]),
    "null target": ({"a": A, "y": NULL}, {"target": "y"}, ["[y]: sample 1: null"]),
    "null name": (
        {"a": A, "y": pa.array([*NAMES[:4], None, *NAMES[5:]])},
        {"target": "y"},
        ["[y]: sample 4: null"],
    ),
    "empty name": ({"a": A, "y": ["", *NAMES[1:]]}, {"target": "y"}, ["[y]", "an empty text"]),
    "names as values": (
        {"a": A, "y": NAMES},
        {"target": "y", "target_kind": "values"},
        ["[y]: holds texts"],
    ),
    "negative class": (
        {"a": A, "y": LABELS - 1},
        {"target": "y", "target_kind": "class"},
        ["[y]: sample 2: class -1"],
    ),
    "negative weight": (
        {"a": A, "y": A, "w": LABELS - 1},
        {"target": "y", "weight": "w"},
        ["[w]: sample 2: weight -1"],
    ),
}


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("case", CASES)
def test_a_bad_table_is_named_with_the_fact(tmp_path: Path, case: str) -> None:
    columns, options, fragments = CASES[case]
    path = write(tmp_path, **columns)
    if "rename" in options:
        options = dict(options)
        table = pa.table(columns).rename_columns(options.pop("rename"))
        pq.write_table(table, path, row_group_size=3)

    with pytest.raises(InvalidData) as caught:
        read(Parquet(path=path, **options).open())

    assert path in str(caught.value)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_a_not_finite_input_is_reported_in_memory_and_when_it_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, a=np.where(LABELS == 0, np.nan, A), b=B, y=LABELS)
    message = r"\[a, b\]: sample 2, element \[0\]: nan"
    with pytest.raises(InvalidData, match=message):
        Parquet(path=path, target="y").open()

    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", 0)
    dataset = Parquet(path=path, target="y").open()

    with pytest.raises(InvalidData, match=message):
        dataset.take_inputs(np.array([1]), np.empty((1, 2)))


@pytest.mark.parametrize("content", [b"", b"hello", b"PAR1" + b"\xff" * 100 + b"PAR1"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(content)

    with pytest.raises(InvalidData, match=r"x\.parquet: "):
        Parquet(path=str(tmp_path / "x.parquet"), target="y").open()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "target"),
        ({"target": "a", "targets": ("b",)}, "target"),
        ({"targets": ()}, "target"),
        ({"targets": ("a", "b"), "target_kind": "class"}, "targets"),
        ({"target": "a", "inputs": ()}, "inputs"),
        ({"target": "a", "inputs": ("b", "a")}, "inputs"),
        ({"target": "a", "weight": "a"}, "inputs"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: Any, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        Parquet(path="x", **options)
