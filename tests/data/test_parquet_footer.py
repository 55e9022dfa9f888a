"""The footer of a Parquet file: columns of row groups that differ from the schema."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dbp.data.parquet_footer import rows_of_groups


def metadata(*chunks: tuple[str, str]) -> Any:
    """A file of columns ``a`` (DOUBLE) and ``b`` (INT64), whose row group has these chunks."""
    columns = [
        SimpleNamespace(path=p, physical_type=t) for p, t in (("a", "DOUBLE"), ("b", "INT64"))
    ]
    found = [SimpleNamespace(path_in_schema=p, physical_type=t) for p, t in chunks]
    group = SimpleNamespace(num_columns=len(found), num_rows=7, column=found.__getitem__)
    return SimpleNamespace(
        num_columns=2, num_row_groups=1, row_group=[group].__getitem__,
        schema=SimpleNamespace(column=columns.__getitem__),
    )  # fmt: skip


def test_a_row_group_of_the_schema_s_columns_has_its_rows() -> None:
    assert rows_of_groups(metadata(("a", "DOUBLE"), ("b", "INT64"))) == [7]


@pytest.mark.parametrize(
    ("chunks", "fault"),
    [
        ([("a", "DOUBLE")], "row group 0 has 1 columns"),
        ([("a", "BYTE_ARRAY"), ("b", "INT64")], "column 0 is BYTE_ARRAY .a."),
        ([("a", "DOUBLE"), ("c", "INT64")], "column 1 is INT64 'c', in the schema INT64 'b'"),
    ],
)  # fmt: skip
def test_another_type_or_name_is_refused_before_pyarrow_reads_it(
    chunks: list[tuple[str, str]], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        rows_of_groups(metadata(*chunks))
