"""Text files as tables: which line is the header, which columns are inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbp.data.csv import CSV
from dbp.data.csv_table import Table, read_names, read_table
from dbp.data.dataset import Dataset
from dbp.data.tsv import TSV
from dbp.errors import InvalidData


def write(folder: Path, text: str) -> str:
    path = folder / "data.csv"
    path.write_text(text)
    return str(path)


def table(folder: Path, text: str, **options: Any) -> Table:
    return read_table(write(folder, text), delimiter=",", **options)


def inputs_of(dataset: Dataset) -> list[list[float]]:
    out = np.empty((len(dataset), *dataset.info.input_shape))
    dataset.take_inputs(np.arange(len(dataset)), out)
    rows: list[list[float]] = out.tolist()
    return rows


ROWS = "5.5,3,0\n6,2,1\n7,1,1\n"


@pytest.mark.parametrize("header", ["0,1,2", "1,2,3", "0,1,label", "1,2,label"])
def test_numbered_columns_are_a_header_with_a_note(tmp_path: Path, header: str) -> None:
    found = CSV(path=write(tmp_path, f"{header}\n{ROWS}")).open()

    assert inputs_of(found) == [[5.5, 3], [6, 2], [7, 1]]
    assert found.info.input_names == tuple(header.split(",")[:2])
    assert found.info == CSV(path=write(tmp_path, f"{header}\n{ROWS}")).inspect()
    assert found.locate_target(0).endswith("data.csv:2")
    (note,) = found.info.notes
    assert "line 1" in note
    assert 'header = "no"' in note


def test_numbered_columns_are_samples_where_the_user_says_so(tmp_path: Path) -> None:
    found = CSV(path=write(tmp_path, f"0,1,2\n{ROWS}"), header="no").open()

    assert len(found) == 4
    assert found.info.notes == ()


def test_numbered_columns_are_a_header_without_a_note_where_the_user_says_so(
    tmp_path: Path,
) -> None:
    found = CSV(path=write(tmp_path, f"0,1,2\n{ROWS}"), header="yes").open()

    assert len(found) == 3
    assert found.info.notes == ()


def test_letter_recognition_gains_no_class_from_its_header(tmp_path: Path) -> None:
    header = ",".join(["Letter", *map(str, range(1, 17))])
    rows = [",".join([letter, *map(str, range(2, 18))]) for letter in "TIDNTID"]
    path = write(tmp_path, "\n".join([header, *rows]))

    found = CSV(path=path, target=0).open()

    assert found.info.class_names == ("D", "I", "N", "T")
    assert len(found) == 7


def test_a_class_of_other_lines_makes_a_numbered_line_a_sample(tmp_path: Path) -> None:
    found = CSV(path=write(tmp_path, "0,1,cat\n5,3,dog\n2,2,cat\n1,9,dog\n")).open()

    assert inputs_of(found)[0] == [0, 1]
    assert found.info.class_names == ("cat", "dog")
    assert found.info.input_names == found.info.notes == ()


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("450,460,label\n5,3,cat\n2,2,cat\n", {}),
        ("450,460,label\n5,3,0\n2,2,1\n", {}),
        ("450,460,label\n5,3,0.5\n2,2,1\n", {"target_kind": "values"}),
        ("label,450,460\ncat,5,3\ndog,2,2\n", {"target": 0}),
    ],
)
def test_a_target_that_occurs_only_in_line_1_is_refused_with_the_remedy(
    tmp_path: Path, text: str, options: Any
) -> None:
    path = write(tmp_path, text)

    with pytest.raises(InvalidData, match=r"data\.csv:1: 'label' occurs in no other line") as e:
        CSV(path=path, **options).open()

    assert 'header = "yes" or header = "no"' in str(e.value)
    assert len(CSV(path=path, header="yes", **options).open()) == 2


def test_a_class_that_occurs_only_in_line_1_is_accepted_with_header_no(
    tmp_path: Path,
) -> None:
    found = CSV(path=write(tmp_path, "450,460,elk\n5,3,cat\n2,2,cat\n"), header="no").open()

    assert found.info.class_names == ("cat", "elk")


def test_a_single_line_is_a_sample(tmp_path: Path) -> None:
    assert inputs_of(CSV(path=write(tmp_path, "450,460,elk\n")).open()) == [[450, 460]]
    assert inputs_of(CSV(path=write(tmp_path, "1,2,3\n")).open()) == [[1, 2]]


@pytest.mark.parametrize("first", ["?,n/a,0", "-,?,cat", "NA,null,1", "1 000,2 000,0"])
def test_missing_values_are_no_names(tmp_path: Path, first: str) -> None:
    path = write(tmp_path, f"{first}\n{ROWS}")

    with pytest.raises(InvalidData, match=r"data\.csv:1: is this a header or a sample\?"):
        CSV(path=path).open()

    assert len(CSV(path=path, header="yes").open()) == 3


def test_an_index_without_a_name_is_left_out_with_a_note(tmp_path: Path) -> None:
    found = CSV(path=write(tmp_path, ",a,b,y\n0,5,6,0\n1,7,8,1\n2,9,9,1\n")).open()

    assert found.info.input_names == ("a", "b")
    assert inputs_of(found) == [[5, 6], [7, 8], [9, 9]]
    (note,) = found.info.notes
    assert "no name" in note
    assert "index" in note


def test_an_index_before_numbered_columns_is_left_out(tmp_path: Path) -> None:
    found = CSV(path=write(tmp_path, ",0,1,2\n0,5,6,0\n1,7,8,1\n")).open()

    assert found.info.input_names == ("0", "1")
    assert inputs_of(found) == [[5, 6], [7, 8]]
    assert len(found.info.notes) == 2


def test_an_index_that_pandas_named_when_it_read_the_file_is_left_out(tmp_path: Path) -> None:
    found = CSV(path=write(tmp_path, "Unnamed: 0,a,y\n0,5,0\n1,7,1\n")).open()

    assert found.info.input_names == ("a",)
    assert len(found.info.notes) == 1


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (",a,y\n0,5,0\n2,7,1\n", "data.csv:3: the first column has no name"),
        (",a,y\n1,5,0\n2,7,1\n", "data.csv:2: the first column has no name"),
        (",a,y\nx,5,0\ny,7,1\n", "data.csv:2: the first column has no name"),
        ("a,,y\n0,5,0\n1,7,1\n", "data.csv:1: column 1 (counted from 0) has no name"),
        (",,a,y\n0,0,5,0\n1,1,7,1\n", "data.csv:1: column 1 (counted from 0) has no name"),
    ],
)
def test_other_columns_without_a_name_are_refused_with_the_remedy(
    tmp_path: Path, text: str, place: str
) -> None:
    path = write(tmp_path, text)

    with pytest.raises(InvalidData) as caught:
        CSV(path=path).open()

    assert place in str(caught.value)
    assert 'inputs = ["a"]' in str(caught.value)
    assert CSV(path=path, inputs=("a",), target="y").open().info.input_names == ("a",)


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("id,a,b,y\n0,5,5,0\n1,7,7,1\n2,7,7,1\n", 'inputs = ["a", "b"]'),
        ("id,a,b,y\n1,5,5,0\n2,7,7,1\n3,7,7,1\n", 'inputs = ["a", "b"]'),
        ("0,5,5,0\n1,7,7,1\n2,7,7,1\n", "inputs = [1, 2]"),
    ],
)
def test_a_first_input_that_counts_the_rows_is_noted(
    tmp_path: Path, text: str, others: str
) -> None:
    found = CSV(path=write(tmp_path, text)).open().info

    assert found.input_shape == (3,)
    (note,) = found.notes
    assert "counts the rows from" in note
    assert note.endswith(others)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("t,y\n0,5\n1,7\n2,7\n", {}),
        ("t,a,y\n0,5,0\n1,7,1\n3,7,1\n", {}),
        ("t,a,y\n0,5,0\n1,7,1\n", {}),
        ("a,t,y\n5,0,0\n5,1,1\n3,2,1\n", {}),
        ("t,a,y\n0,5,0\n1,7,1\n2,7,1\n", {"inputs": ("t", "a")}),
    ],
)
def test_other_first_inputs_are_not_noted(tmp_path: Path, text: str, options: Any) -> None:
    assert CSV(path=write(tmp_path, text), **options).open().info.notes == ()


def test_an_index_that_is_asked_for_is_an_input(tmp_path: Path) -> None:
    path = write(tmp_path, ",a,y\n0,5,0\n1,7,1\n")

    assert inputs_of(CSV(path=path, inputs=(1, 0)).open()) == [[5, 0], [7, 1]]
    assert len(CSV(path=path, target=0, target_kind="class").open()) == 2


@pytest.mark.parametrize("text", ["a,a,y\n1,2,0\n", "a, a ,y\n1,2,0\n", "y,a,y\n1,2,0\n"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidData, match=r"data\.csv:1: columns \d and \d .* must be unique"):
        CSV(path=write(tmp_path, text)).open()


def test_a_name_that_only_ignored_columns_share_is_no_matter(tmp_path: Path) -> None:
    path = write(tmp_path, "a,a,b,y\n1,2,3,0\n4,5,6,1\n")

    assert inputs_of(CSV(path=path, inputs=("b",)).open()) == [[3], [6]]
    assert inputs_of(CSV(path=path, inputs=(1, 2)).open()) == [[2, 3], [5, 6]]


@pytest.mark.parametrize("inputs", [("b", "a"), (2, 0), (-3, "a"), ("b", -5)])
def test_chosen_inputs_come_in_the_order_asked_for_and_all_else_is_ignored(
    tmp_path: Path, inputs: Any
) -> None:
    text = "a,city,b,when,y\n1,Rome,2,May,0\n3,,4,June,1\n"

    found = CSV(path=write(tmp_path, text), inputs=inputs).open()

    assert inputs_of(found) == [[2, 1], [4, 3]]
    assert found.info.input_names == ("b", "a")


def test_tsv_takes_chosen_inputs_too(tmp_path: Path) -> None:
    path = write(tmp_path, "a\tcity\tb\ty\n1\tRome\t2\t0\n3\tBonn\t4\t1\n")

    assert inputs_of(TSV(path=path, inputs=("b", 0)).open()) == [[2, 1], [4, 3]]


def test_inputs_by_position_need_no_header(tmp_path: Path) -> None:
    path = write(tmp_path, "5,Rome,2,0\n3,Bonn,4,1\n")

    found = CSV(path=path, inputs=(2, 0), target=3, header="no").open()

    assert inputs_of(found) == [[2, 5], [4, 3]]
    assert found.info.input_names == ()


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"inputs": ("a", "c")}, "no columns named 'c'"),
        ({"inputs": (0, 9)}, "no column 9 for inputs, target or weight: there are 3, 0 to 2"),
        ({"inputs": ("a", 0)}, "'a' and 0 are the same column"),
        ({"inputs": ("a", "y")}, "-1 and 'y' are the same column"),
        ({"inputs": ("a",), "weight": 0, "target": "y"}, "0 and 'a' are the same column"),
    ],
)
def test_inputs_that_do_not_fit_the_file_are_refused(
    tmp_path: Path, options: Any, fact: str
) -> None:
    with pytest.raises(InvalidData) as caught:
        CSV(path=write(tmp_path, "a,b,y\n1,2,0\n"), **options).open()

    assert "data.csv:1: " in str(caught.value)
    assert fact in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"inputs": ()},
        {"inputs": ("a", "a")},
        {"inputs": (0, -1)},
        {"inputs": ("y",), "target": "y"},
        {"inputs": ("w",), "weight": "w"},
        {"inputs": ("a",), "header": "no"},
    ],
)
def test_inputs_that_contradict_other_options_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match=r"^inputs: "):
        CSV(path="x", **options)
    with pytest.raises(ValueError, match=r"^inputs: "):
        TSV(path="x", **options)


def test_names_are_taken_without_the_blanks_around_them(tmp_path: Path) -> None:
    found = CSV(path=write(tmp_path, "a , b, y\n1,2,0\n"), target=" y", inputs=("b", "a"))

    assert found.open().info.input_names == ("b", "a")


def test_columns_left_out_may_be_there_or_not(tmp_path: Path) -> None:
    found = table(tmp_path, "y,a,b\ncat,1,2\ndog,3,4\n", leave_out=("y", "w"))

    assert found.input_names == ("a", "b")
    assert found.inputs.tolist() == [[1, 2], [3, 4]]


def test_names_are_read_from_line_1_only(tmp_path: Path) -> None:
    path = write(tmp_path, ",a,b,city,y\n7,1,2,Rome,cat\n")

    assert read_names(path, delimiter=",") == ("a", "b", "city", "y")
    assert read_names(path, delimiter=",", leave_out=("y",)) == ("a", "b", "city")
    assert read_names(path, delimiter=",", header="no") == ()
    assert read_names(write(tmp_path, "1.5,2\n"), delimiter=",") == ()
    assert read_names(
        write(tmp_path, "Letter,1,2\n"), delimiter=",", leave_out=("Letter",)
    ) == (
        "1",
        "2",
    )


def test_the_remedies_are_the_caller_s(tmp_path: Path) -> None:
    remedies = ("--header yes", "--header no")

    with pytest.raises(InvalidData, match="say --header yes or --header no"):
        table(tmp_path, "0\n1.5\n", remedies=remedies)

    assert "say --header no" in table(tmp_path, "0,1\n1.5,2\n", remedies=remedies).notes[0]


def test_a_line_with_one_cell_more_than_names_is_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    with pytest.raises(InvalidData, match=r":2: 3 columns, expected 2 .* row\.names = FALSE"):
        table(tmp_path, '"a","y"\n"1",5,0.5\n"2",6,1.5\n')
    with pytest.raises(InvalidData, match=r":2: 3 columns, .*the line ends with a delimiter"):
        table(tmp_path, "a,y\n5,0.5,\n")
    with pytest.raises(InvalidData, match=r"expected 2 as in the first line$"):
        table(tmp_path, "a,y\n5,0.5\n5,6,7\n")


@pytest.mark.parametrize("text", ["a,y,\n1,2,\n3,4,\n", "5,2,\n3,4,\n"])
def test_a_last_column_that_is_empty_is_no_target(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)

    with pytest.raises(InvalidData, match=r"the target is empty, as in every line; .*choose"):
        CSV(path=path).open()
    assert inputs_of(CSV(path=path, target=1, inputs=(0,)).open())[-1] == [3]


def test_an_empty_target_among_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidData,
        match=r":3: column 'y': the target is empty; fill it in, or leave the row out$",
    ):
        CSV(path=write(tmp_path, "a,y\n1,2\n3,\n")).open()


def test_a_quoted_header_with_another_delimiter_is_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    with pytest.raises(InvalidData, match=r":1: .*, or is the delimiter another one"):
        table(tmp_path, '"a";"y"\n1;2\n')


def test_a_class_that_looks_like_a_missing_value_is_noted(tmp_path: Path) -> None:
    found = CSV(path=write(tmp_path, "a,y\n1,oak\n2,?\n3,none\n")).open().info

    assert found.class_names == ("?", "none", "oak")
    (note,) = found.notes
    assert "class '?' looks like a missing value" in note


def test_decimal_commas_in_the_target_are_refused_with_the_reason(tmp_path: Path) -> None:
    path = write(tmp_path, "a;y\n1;2,5\n2;3\n")

    with pytest.raises(InvalidData, match=r"'2,5' is not a number.*decimal comma: write 2\.5"):
        CSV(path=path, delimiter=";").open()


def test_an_option_that_chooses_inputs_names_as_many_as_can_be_copied(tmp_path: Path) -> None:
    names = [f"x{i}" for i in range(40)]
    header, row = ",".join(["x", "", *names, "y"]), ",".join(["1"] * 43)

    with pytest.raises(InvalidData, match=r'"x38", "x39"\]$'):
        CSV(path=write(tmp_path, f"{header}\n{row}\n")).open()


@pytest.mark.parametrize(
    ("kind", "mark", "remedy"),
    [
        ("csv", ";", 'kind = "csv", delimiter = ";"'),
        ("csv", "\t", 'kind = "tsv"'),
        ("tsv", ",", 'kind = "csv", delimiter = ","'),
    ],
)
@pytest.mark.parametrize("lines", [["a", "b", "1", "2"], ["1", "2", "3", "4"]])
def test_lines_of_another_delimiter_are_refused_with_the_options_that_read_them(
    tmp_path: Path, kind: str, mark: str, remedy: str, lines: list[str]
) -> None:
    path = write(tmp_path, f"{mark.join(lines[:2])}\n{mark.join(lines[2:])}\n")
    reader = TSV(path=path) if kind == "tsv" else CSV(path=path)

    with pytest.raises(InvalidData) as raised:
        reader.open()

    assert f"is the delimiter another one ({remedy})?" in str(raised.value)
