"""A text that is meant as a number is refused with the number to write."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dbp.data.csv import CSV
from dbp.data.number_text import number, number_hint, repaired
from dbp.data.parquet import Parquet
from dbp.errors import InvalidData


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("3,5", "it has a decimal comma: write 3.5"),
        (",5", "it has a decimal comma: write .5"),
        ("0,126", "it has a decimal comma: write 0.126"),
        ("-1.234,5", "it has a decimal comma: write -1234.5"),
        ("1,234", "write 1234, or 1.234 if the comma is a decimal comma"),
        ("1,234,567.5", "write 1234567.5"),
        ("1\u00a0000", "write 1000"),
        ("\u22125", "write -5"),
        ("5\u200b", "it holds invisible characters: write 5"),
        ("0\x00.5", "it holds invisible characters: write 0.5"),
        ("5%", "write 5"),
        ("\u20ac5.50", "write 5.50"),
        ("'5'", "write 5"),
        ("1_000", "write 1000"),
        ("0x1F", "write 31"),
        ("True", "write 1 and 0"),
        ("n/a", "it looks like a missing value: fill it in, or leave the row out"),
        ("#DIV/0!", "it is an error of a spreadsheet: mend the formula"),
        ("2024-01-31", "it is a date: write a number, such as days since a date"),
        ("31.1.2024", "it is a date: write a number, such as days since a date"),
    ],
)
def test_the_message_names_the_remedy(text: str, hint: str) -> None:
    assert number(text) is None
    assert number_hint(text) == f"; {hint}"


@pytest.mark.parametrize("text", ["oak", "18-25", "1/2", "a,b", "v1.2.3", "--", "\u00b0"])
def test_other_texts_are_no_numbers(text: str) -> None:
    assert repaired(text) == ""


@pytest.mark.parametrize("text", ["3,5", "5%", "\u20ac5", "1 000", "\u22125"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_targets_that_are_all_badly_written_numbers_are_no_classes_unless_it_is_said(
    tmp_path: Path, text: str, kind: str
) -> None:
    path, targets = tmp_path / f"rows.{kind}", [text, text.replace("5", "6"), text]

    def reader(target_kind: str = "auto") -> CSV | Parquet:
        if kind == "csv":
            path.write_text("x;y\n" + "".join(f"1;{target}\n" for target in targets))
            return CSV(path=str(path), delimiter=";", target_kind=target_kind)  # type: ignore[arg-type]
        pq.write_table(pa.table({"x": [1.0, 2.0, 3.0], "y": targets}), path)
        return Parquet(path=str(path), target="y", target_kind=target_kind)  # type: ignore[arg-type]

    with pytest.raises(InvalidData, match=rf"'{text}' is not a number.*target_kind = .class.$"):
        reader().inspect()
    assert reader("class").inspect().class_names == tuple(sorted(set(targets)))


def test_classes_of_which_some_hold_digits_keep_their_names(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("x;y\n1;10%\n2;none of it\n")

    assert CSV(path=str(path), delimiter=";").open().info.class_names == ("10%", "none of it")


@pytest.mark.parametrize("text", ["nan", "inf", "", " "])
def test_a_value_that_is_missing_is_to_be_filled_in(text: str) -> None:
    assert number_hint(text) == "; fill it in, or leave the row out"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("nan,0", "column 'x': nan, expected a finite number; fill it in"),
        ("1e400,0", r"column 'x': inf \(or a number too large for float64\), expected a"),
        (",0", "column 'x': the cell is empty; fill it in"),
        ("1,", "column 'y': the target is empty; fill it in"),
        ("1,inf", "column 'y': 'inf', expected a finite number; fill it in"),
    ],
)
def test_cells_that_hold_no_finite_number_are_refused_with_a_remedy(
    tmp_path: Path, row: str, message: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"x,y\n1,1\n{row}\n")

    with pytest.raises(InvalidData, match=rf"rows\.csv:3: {message}"):
        CSV(path=str(path)).open()
