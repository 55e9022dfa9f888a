"""Contents of files in messages: cut with a mark, so that different ones do not look equal."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.data.csv import CSV
from dbp.errors import InvalidData


@pytest.mark.parametrize(
    ("header", "cell", "shown"),
    [
        ("a" * 41, "x", f"column '{'a' * 40}...': 'x' is not"),
        ("a" * 40, "x" * 41, f"column '{'a' * 40}': '{'x' * 40}...' is not"),
    ],
)
def test_long_names_and_cells_are_cut_with_a_mark(
    tmp_path: Path, header: str, cell: str, shown: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{header},y\n1,0\n{cell},1\n")

    with pytest.raises(InvalidData) as error:
        CSV(path=str(path), target="y").open()

    assert shown in str(error.value)


def test_long_names_in_a_list_are_cut_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{'a' * 41},y\n1,0\n")

    with pytest.raises(InvalidData) as error:
        CSV(path=str(path), target="z").open()

    assert f"'{'a' * 40}...', 'y'" in str(error.value)
