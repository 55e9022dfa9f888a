"""Line 1 of a text file is a header, a sample, or undecided, by its cells alone."""

from __future__ import annotations

import pytest

from dbp.data.csv_header import is_nameless, judge


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("a,b,y", "header"),
        ("a,b,3", "header"),
        ("Na,K,y", "header"),
        ("2020-01-01,2020-01-02,y", "header"),
        ("5.1,3.5,0", "sample"),
        ("1,2,0", "sample"),
        ("0,1,3", "sample"),
        ("0,1.0,2", "sample"),
        ("2,3,4", "sample"),
        ("0,2,y", "sample"),
        ("id,2019,y", "sample"),
        ("0,1,2", "counts"),
        ("1,2,3", "counts"),
        ("0,1,y", "counts"),
        ("1,2,y", "counts"),
        (" 0, 1 ,y", "counts"),
        (",0,1,2", "header"),
        (",1,2,3", "header"),
        (",5,1,2", "sample"),
        ("0,y", "sample"),
        ("1,y", "sample"),
        ("0,1", "counts"),
        ("?,n/a,-", None),
        ("?,?,setosa", None),
        ("NA,,0", None),
        ("1 000,$5,0", None),
        ("?,width,0", "header"),
    ],
)
def test_first_lines_whose_last_column_is_the_target(line: str, verdict: str | None) -> None:
    cells = [cell.strip() for cell in line.split(",")]

    assert judge(cells, range(len(cells) - 1)) == verdict


@pytest.mark.parametrize("target", [0, 2, 4])
@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("count_target", [False, True])
def test_numbered_columns_are_found_for_any_position_of_the_target(
    target: int, base: int, count_target: bool
) -> None:
    if count_target:
        cells = [str(position + base) for position in range(5)]
        cells[target] = "Letter"
    else:
        cells = [str(number + base) for number in range(4)]
        cells.insert(target, "Letter")

    assert judge(cells, [p for p in range(5) if p != target]) == "counts"


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [(["0"], None), (["1"], "sample"), (["2.5"], "sample"), (["x"], "header"), (["?"], None)],
)
def test_a_single_column_of_inputs(cells: list[str], verdict: str | None) -> None:
    assert judge(cells, [0]) == verdict


def test_columns_that_are_no_inputs_may_have_names_among_numbers() -> None:
    assert judge(["0", "note", "2", "3", "y"], [0, 2]) == "counts"
    assert judge(["0", "note", "5", "3", "y"], [0, 2]) == "sample"


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "Unnamed: 0.1", "Unnamed: 2_level_1"])
def test_names_that_pandas_gives_to_nameless_columns_are_none(name: str) -> None:
    assert is_nameless(name)
    assert not is_nameless(f"my {name or 'name'}")
