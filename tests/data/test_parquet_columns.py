"""Which columns of a Parquet file are inputs: types, nulls, the index of pandas."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dbp.data.parquet import Parquet
from dbp.errors import InvalidData
from tests.data.parquet_setups import LABELS, NAMES, A, B, read, write, write_columns

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
