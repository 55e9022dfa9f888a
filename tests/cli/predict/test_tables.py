"""Columns of a table given to `dbp predict` are matched to the model's inputs by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dbp.cli.predict.files import InputFile, find_files
from dbp.cli.predict.tables import AUTO, Header, TextOptions, read_columns
from dbp.column_names import POSITIONAL, Columns, OtherColumns
from dbp.errors import InvalidData, InvalidInput

MODEL = Columns(("a", "b"), OtherColumns(("y",), "w"))
CHOSEN = Columns(("a", "b"), OtherColumns(("y",), ignored=True))
VALUES = {"a": ["1", "4"], "b": ["2", "5"], "y": ["oak", "elm"], "w": ["0.5", "1"]}
NUMBERS = {"a": [1.0, 4.0], "b": [2.0, 5.0]}


def write(folder: Path, kind: str, names: str) -> Path:
    """Two rows with these columns; a name that is unknown holds zeros."""
    path = folder / f"rows.{kind}"
    if kind == "parquet":
        columns = {n: pa.array(NUMBERS.get(n, VALUES.get(n, [0.0, 0.0]))) for n in names}
        pq.write_table(pa.table(columns), path)
    else:
        mark = {"csv": ",", "tsv": "\t"}[kind]
        rows = zip(*(VALUES.get(n, ["0", "0"]) for n in names), strict=True)
        path.write_text("\n".join(map(mark.join, [tuple(names), *rows])))
    return path


def file(path: Path) -> InputFile:
    (found,) = find_files([path])
    return found


def read(path: Path, columns: Columns = MODEL, header: Header = "auto") -> list[list[float]]:
    notes: list[str] = []
    found = read_columns(file(path), columns, TextOptions(header), notes.append)
    assert notes == []
    return found.inputs.tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("names", ["ab", "ba", "bay", "ybwa", "wba"])
def test_inputs_come_in_the_models_order_without_target_and_weight(
    tmp_path: Path, kind: str, names: str
) -> None:
    assert read(write(tmp_path, kind, names)) == [[1, 2], [4, 5]]


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("aBy", "no input 'b', did you mean 'B'?; 'B' is no input of the model"),
        ("ay", "no input 'b'; the inputs of the model are 'a', 'b'"),
        ("abc", "'c' is no input of the model; remove columns that are no inputs"),
    ],
)
def test_missing_and_extra_columns_are_refused_by_name(
    tmp_path: Path, kind: str, names: str, message: str
) -> None:
    path = write(tmp_path, kind, names)

    with pytest.raises(InvalidData) as caught:
        read(path)

    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"columns 1 and 2 .* both named 'b'"):
        read(write(tmp_path, "csv", "abb"))
    with pytest.raises(InvalidData, match="2 columns named 'b'"):
        read(write(tmp_path, "csv", "abbx"), CHOSEN)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_where_training_chose_its_inputs_other_columns_are_ignored(
    tmp_path: Path, kind: str
) -> None:
    assert read(write(tmp_path, kind, "qbay"), CHOSEN) == [[1, 2], [4, 5]]
    with pytest.raises(InvalidData, match="no input 'b'; the inputs"):
        read(write(tmp_path, kind, "qay"), CHOSEN)


@pytest.mark.parametrize("columns", [MODEL, CHOSEN])
def test_a_text_without_a_header_is_read_by_position(tmp_path: Path, columns: Columns) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("1.5,2\n4,5\n")

    assert read(path, columns) == read(path, columns, "no") == [[1.5, 2], [4, 5]]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_model_without_names_takes_columns_by_position(tmp_path: Path, kind: str) -> None:
    assert read(write(tmp_path, kind, "ba"), POSITIONAL) == [[2, 1], [5, 4]]


def test_names_that_are_numbers_are_a_header_where_the_model_has_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("2021,2020\n5.5,7\n")

    assert read(path, Columns(("2020", "2021"))) == [[7, 5.5]]
    assert read(path, POSITIONAL) == [[2021, 2020], [5.5, 7]]
    assert read(path, Columns(("2020", "2021")), "no") == [[2021, 2020], [5.5, 7]]


def test_a_numbered_header_is_reported_and_can_be_a_sample(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("0,1\n5.5,7\n")
    notes: list[str] = []

    found = read_columns(file(path), POSITIONAL, AUTO, notes.append)

    assert found.inputs.tolist() == [[5.5, 7]]
    assert "--header no" in notes[0]
    assert read(path, POSITIONAL, "no") == [[0, 1], [5.5, 7]]
    with pytest.raises(
        InvalidData, match=r"no input 'a', 'b'.*if line 1 is a sample: --header no"
    ):
        read(path)


def test_names_may_hold_the_delimiter_and_quotes(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('"b ""x""","a, m²"\n2,1\n')

    assert read(path, Columns(("a, m²", 'b "x"'))) == [[1, 2]]


@pytest.mark.parametrize(("delimiter", "sign"), [(";", ";"), ("|", "|"), ("\\t", "\t")])
def test_another_delimiter(tmp_path: Path, delimiter: str, sign: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"b{sign}a\n2{sign}1\n")

    found = read_columns(file(path), MODEL, TextOptions(delimiter=delimiter), print)

    assert found.inputs.tolist() == [[1, 2]]


def test_a_header_with_another_delimiter_is_refused_with_the_option(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("b;a\n2;1\n")

    with pytest.raises(
        InvalidData, match=r"'b;a' is no input .* another one \(--delimiter ';'\)\?$"
    ):
        read(path)


def test_a_delimiter_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--delimiter: must be one character"):
        read_columns(
            InputFile(tmp_path / "rows.csv", "csv"), MODEL, TextOptions(delimiter="ab"), print
        )


def test_a_pandas_index_of_a_text_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(",b,a\n0,2,1\n1,5,4\n")

    assert read(path) == read(path, CHOSEN) == [[1, 2], [4, 5]]


def test_a_pandas_index_of_a_parquet_file_is_left_out_unless_it_is_an_input(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows.parquet"
    for index in ("__index_level_0__", "c"):
        table = pa.table({"b": [2.0, 5.0], "a": [1.0, 4.0], index: [7.0, 9.0]})
        pandas = json.dumps({"index_columns": [index]}).encode()
        pq.write_table(table.replace_schema_metadata({b"pandas": pandas}), path)

        assert read(path) == read(path, CHOSEN) == [[1, 2], [4, 5]]
    assert read(path, Columns(("c", "a", "b"))) == [[7, 1, 2], [9, 4, 5]]


def test_a_text_column_of_a_parquet_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"b": [2.0], "a": [1.0], "city": ["x"]}), path)

    with pytest.raises(InvalidData, match=r"'city' is no input of the model; remove columns"):
        read(path)
    assert read(path, CHOSEN) == [[1, 2]]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for kind in ("csv", "parquet"):
        with pytest.raises(InvalidData, match=f"none.{kind}"):
            read(tmp_path / f"none.{kind}")


def test_many_columns_are_read_quickly(tmp_path: Path) -> None:
    names = [f"x{i}" for i in range(5_000)]
    path = tmp_path / "rows.csv"
    values = np.arange(5_000)
    path.write_text(",".join(names[::-1]) + "\n" + ",".join(map(str, values[::-1])) + "\n")

    assert read(path, Columns(tuple(names))) == [values.tolist()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,\n1,2,\n", "column 2 .* has no name; name it, or leave it out of the file$"),
        ("a,a,b\n1,1,2\n", "both named 'a'; .*: rename one, or leave one out of the file$"),
    ],
)
def test_remedies_are_those_of_the_command(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)

    with pytest.raises(InvalidData, match=message):
        read(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1.0, None], "b": [1.0, 2.0]}, "null; fill it in or leave the row out$"),
        ({"a": [1.0], "city": ["x"]}, "'city' is of type text; leave it out of the file$"),
        ({"": [3, 5], "a": [1.0, 2.0]}, "name it or leave it out of the file$"),
    ],
)
def test_remedies_for_parquet_are_those_of_the_command(
    tmp_path: Path, columns: dict[str, list[object]], message: str
) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns), path)

    with pytest.raises(InvalidData, match=message):
        read(path, POSITIONAL)


def test_some_names_that_are_numbers_are_neither_header_nor_sample(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("2021,2022\n5.5,7\n")
    years = Columns(("2020", "2021"))

    with pytest.raises(InvalidData, match=r"'2021' is the name of an input.*--header yes or"):
        read(path, years)
    with pytest.raises(InvalidData, match="no input '2020'"):
        read(path, years, "yes")
    assert read(path, years, "no") == [[2021, 2022], [5.5, 7]]


def test_samples_that_hold_the_number_of_a_column_stay_samples(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("5,1\n0,0\n")

    assert read(path, Columns(("0", "1"))) == [[5, 1], [0, 0]]


def test_numbered_inputs_in_line_1_are_a_header_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("1,0\n5.5,7\n")
    notes: list[str] = []

    found = read_columns(file(path), Columns(("0", "1")), AUTO, notes.append)

    assert found.inputs.tolist() == [[7, 5.5]]
    assert "unless you add --header no" in notes[0]
