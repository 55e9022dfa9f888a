"""The parquet reader gives back what pyarrow wrote, in memory and by row groups."""

from __future__ import annotations

import json
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dbp.data import parquet_table
from dbp.data import rows as rows_module
from dbp.data.dataset import Dataset
from dbp.data.parquet import Parquet
from dbp.errors import InvalidData, MissingDependency

RNG = np.random.default_rng(1)
A = RNG.normal(size=10)
B = RNG.integers(-5, 100, 10).astype(np.int16)
LABELS = np.array([2, 1, 0, 1, 2, 0, 0, 1, 2, 2])
NAMES = [("setosa", "Iris", "versicolor")[label] for label in LABELS]


@pytest.fixture(params=[0, 2**20], ids=["row groups", "memory"])
def limit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(rows_module, "IN_MEMORY_BYTES", request.param)
    return int(request.param)


def write(folder: Path, *, rows: int = 3, **columns: Any) -> str:
    return write_columns(folder, columns, rows)


def write_columns(folder: Path, columns: dict[str, Any], rows: int = 3) -> str:
    path = folder / "table.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    return str(path)


def read(dataset: Dataset, chosen: Any = None) -> tuple[np.ndarray, np.ndarray]:
    info = dataset.info
    chosen = np.arange(len(dataset)) if chosen is None else np.array(chosen)
    inputs = np.empty((len(chosen), *info.input_shape), info.input_dtype)
    targets = np.empty((len(chosen), *info.target_shape))
    dataset.take_inputs(chosen, inputs)
    dataset.take_targets(chosen, targets)
    return inputs, targets


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


def test_a_large_file_is_read_by_row_groups_alone(
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


def test_without_pyarrow_the_remedy_is_told(
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


OTHER_COLUMNS: dict[str, tuple[Any, str]] = {
    "text": (NAMES, "text"),
    "dictionary of text": (pa.array(NAMES).dictionary_encode(), "text"),
    "timestamp": (LABELS.astype("M8[us]"), "timestamp"),
    "date": (pa.array(LABELS.astype(np.int32), pa.date32()), "date32"),
    "duration": (LABELS.astype("m8[us]"), "duration"),
    "time": (pa.array(LABELS.astype(np.int32), pa.time32("s")), "time32"),
    "list": ([[1.0, 2.0]] * 10, "list<"),
    "vector": (pa.array([[1.0, 2.0]] * 10, pa.list_(pa.float32(), 2)), "fixed_size_list<"),
    "struct": ([{"x": 1}] * 10, "struct<"),
    "binary": ([b"x"] * 10, "binary"),
    "nulls only": (pa.nulls(10), "null"),
}


@pytest.mark.parametrize("kind", OTHER_COLUMNS)
def test_a_column_that_is_no_number_is_refused_by_name_with_the_remedy(
    tmp_path: Path, kind: str
) -> None:
    column, shown = OTHER_COLUMNS[kind]
    path = write(tmp_path, a=A, other=column, b=B, y=LABELS)

    for read_file in (Parquet.inspect, Parquet.open):
        with pytest.raises(InvalidData) as caught:
            read_file(Parquet(path=path, target="y"))
        assert f"'other' is of type {shown}" in str(caught.value)
        assert 'inputs = ["a", "b"]' in str(caught.value)

    named = Parquet(path=path, target="y", inputs=("a", "b")).open()
    assert named.info.input_names == ("a", "b")


def test_a_column_of_periods_which_pandas_stores_as_numbers_is_no_number(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "t.parquet")
    metadata = {
        "ARROW:extension:name": "pandas.period", "ARROW:extension:metadata": '{"freq": "D"}'
    }  # fmt: skip
    schema = pa.schema(
        [("a", pa.float64()), pa.field("day", pa.int64(), metadata=metadata), ("y", pa.int64())]
    )
    pq.write_table(pa.table([A, LABELS, LABELS], schema=schema), path)

    with pytest.raises(InvalidData, match=r"'day' is of type extension<pandas\.period>"):
        Parquet(path=path, target="y").inspect()


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_a_column_of_nulls_only_is_refused_by_name_with_the_remedy(
    tmp_path: Path, dtype: Any
) -> None:
    nulls = pa.nulls(10, pa.from_numpy_dtype(dtype))
    path = write(tmp_path, a=A, gone=nulls, b=B, y=LABELS)

    with pytest.raises(InvalidData, match=r"'gone' holds nulls only.*inputs = \[.a., .b.\]"):
        Parquet(path=path, target="y").inspect()

    assert Parquet(path=path, target="y", inputs=("a", "b")).inspect().samples == 10


@pytest.mark.parametrize("base", [0, 1])
def test_a_first_input_that_counts_the_rows_is_noted(tmp_path: Path, base: int) -> None:
    path = write(tmp_path, id=np.arange(base, base + 10), a=A, b=B, y=LABELS)

    reader = Parquet(path=path, target="y")

    (note,) = reader.inspect().notes
    assert f"'id' counts the rows from {base}; " in note
    assert note.endswith('inputs = ["a", "b"]')
    assert reader.open().info == reader.inspect()
    assert Parquet(path=path, target="y", inputs=("id", "a")).inspect().notes == ()


def test_other_first_inputs_are_not_noted(tmp_path: Path) -> None:
    for columns in (
        {"id": np.arange(2, 12), "a": A, "y": A},
        {"id": [*range(9), 99], "a": A, "y": A},
        {"id": np.arange(10.0), "a": A, "y": A},
        {"id": np.arange(10), "y": A},
    ):
        assert Parquet(path=write_columns(tmp_path, columns), target="y").inspect().notes == ()


def test_all_columns_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, a=A, city=NAMES, when=LABELS.astype("M8[us]"), y=LABELS)

    with pytest.raises(InvalidData, match=r"'city' is of type text, 'when' is of type timest"):
        Parquet(path=path, target="y").inspect()


DECIMALS = [Decimal(str(round(value, 3))) for value in A]


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("make", [pa.decimal32, pa.decimal64, pa.decimal128, pa.decimal256])
def test_decimals_are_numbers(tmp_path: Path, make: Any) -> None:
    column = pa.array(DECIMALS, make(9, 3))
    path = write(tmp_path, price=column, b=B, y=column, w=pa.array([Decimal(1)] * 10))

    reader = Parquet(path=path, target="y", weight="w")
    dataset = reader.open()

    assert dataset.info == reader.inspect()
    assert dataset.info.input_names == ("price", "b")
    assert dataset.info.input_dtype == np.dtype(np.float64)
    inputs, targets = read(dataset)
    np.testing.assert_array_equal(inputs, np.stack([[float(d) for d in DECIMALS], B], axis=1))
    np.testing.assert_array_equal(targets, [float(d) for d in DECIMALS])


def test_whole_decimals_are_classes_where_the_options_say_so(tmp_path: Path) -> None:
    labels = pa.array([Decimal(int(label)) for label in LABELS], pa.decimal128(10, 0))
    path = write(tmp_path, a=A, y=labels)

    dataset = Parquet(path=path, target="y", target_kind="class").open()

    assert dataset.info.target_kind == "class"
    np.testing.assert_array_equal(read(dataset)[1], LABELS)


@pytest.mark.usefixtures("limit")
def test_a_categorical_column_of_numbers_holds_its_numbers(tmp_path: Path) -> None:
    column = pa.array([7, 3, 9, 3, 7, 9, 9, 3, 7, 7]).dictionary_encode()
    path = write(tmp_path, rank=column, y=A)

    np.testing.assert_array_equal(
        read(Parquet(path=path, target="y").open())[0][:, 0], column.to_pylist()
    )


def test_a_null_is_refused_before_training_where_the_footer_knows_of_it(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, a=A, b=pa.array([*B[:7].tolist(), None, 1, 2]), y=LABELS)

    with pytest.raises(InvalidData, match=r"\[b\]: sample 7: null; fill it in.*inputs = \["):
        Parquet(path=path, target="y").inspect()


def write_pandas(folder: Path, index: list[Any], **columns: Any) -> str:
    """A file with the metadata that pandas writes; ``index``: its index_columns."""
    metadata = {"index_columns": index, "columns": [], "pandas_version": "2.2.3"}
    table = pa.table(columns).replace_schema_metadata({b"pandas": json.dumps(metadata)})
    path = folder / "table.parquet"
    pq.write_table(table, path, row_group_size=3)
    return str(path)


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize(
    ("index", "columns"),
    [
        (["__index_level_0__"], {"__index_level_0__": LABELS}),
        (["id"], {"id": LABELS}),
        (["when"], {"when": LABELS.astype("M8[us]")}),
        (["key"], {"key": NAMES}),
        (["id", "__index_level_1__"], {"id": LABELS, "__index_level_1__": NAMES}),
    ],
)
def test_the_index_of_pandas_is_no_input_and_a_note_says_so(
    tmp_path: Path, index: list[Any], columns: dict[str, Any]
) -> None:
    path = write_pandas(tmp_path, index, a=A, y=LABELS, b=B, **columns)

    reader = Parquet(path=path, target="y")
    dataset = reader.open()

    assert dataset.info == reader.inspect()
    assert dataset.info.input_names == ("a", "b")
    assert len(dataset.info.notes) == len(index)
    for name, note in zip(index, dataset.info.notes, strict=True):
        assert f"column {name!r} is the index of a pandas DataFrame" in note


def test_an_index_that_is_a_range_is_no_column(tmp_path: Path) -> None:
    index = [{"kind": "range", "name": None, "start": 0, "stop": 10, "step": 1}]
    path = write_pandas(tmp_path, index, a=A, y=LABELS)

    info = Parquet(path=path, target="y").inspect()

    assert (info.input_names, info.notes) == (("a",), ())


def test_an_index_column_is_known_by_its_name_where_the_metadata_are_lost(
    tmp_path: Path,
) -> None:
    info = Parquet(path=write(tmp_path, a=A, y=A, __index_level_0__=B), target="y").inspect()

    assert info.input_names == ("a",)
    assert len(info.notes) == 1


def test_an_index_that_is_asked_for_is_an_input_a_target_or_a_weight(tmp_path: Path) -> None:
    path = write_pandas(tmp_path, ["id"], a=A, y=LABELS, id=LABELS)

    chosen = Parquet(path=path, target="y", inputs=("id", "a")).inspect()
    as_target = Parquet(path=path, target="id").inspect()
    as_weight = Parquet(path=path, target="y", weight="id").inspect()

    assert (chosen.input_names, chosen.notes) == (("id", "a"), ())
    assert (as_target.input_names, as_target.notes) == (("a", "y"), ())
    assert (as_weight.input_names, as_weight.notes) == (("a",), ())


@pytest.mark.parametrize("metadata", ["{", "[]", '{"index_columns": 3}', "null"])
def test_metadata_of_pandas_that_cannot_be_read_are_refused_unless_inputs_are_named(
    tmp_path: Path, metadata: str
) -> None:
    table = pa.table({"a": A, "y": A}).replace_schema_metadata({b"pandas": metadata})
    path = str(tmp_path / "t.parquet")
    pq.write_table(table, path)

    with pytest.raises(InvalidData, match=r"t\.parquet: its pandas metadata.*inputs = \["):
        Parquet(path=path, target="y").inspect()

    assert Parquet(path=path, target="y", inputs=("a",)).inspect().input_names == ("a",)


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_a_first_column_without_a_name_must_count_the_rows(tmp_path: Path, name: str) -> None:
    counting = write_columns(tmp_path, {name: np.arange(10), "a": A, "y": A})
    info = Parquet(path=counting, target="y").inspect()
    assert info.input_names == ("a",)
    assert len(info.notes) == 1

    other = write_columns(tmp_path, {name: np.arange(1, 11), "a": A, "y": A})
    with pytest.raises(InvalidData, match="no name of its own and does not count the rows"):
        Parquet(path=other, target="y").inspect()


def test_another_column_without_a_name_is_refused(tmp_path: Path) -> None:
    path = write_columns(tmp_path, {"a": A, "Unnamed: 1": np.arange(10), "y": A})

    with pytest.raises(
        InvalidData, match=r"column 'Unnamed: 1' has no name.*inputs = \[\"a\"\]"
    ):
        Parquet(path=path, target="y").inspect()


def test_a_not_finite_input_is_told_in_memory_and_when_it_is_met(
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
