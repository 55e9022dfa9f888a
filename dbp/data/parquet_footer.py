"""Sizes and statistics in the footer of a Parquet file, which is read before any column."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

from dbp.data.file import MAX_RATIO, check_ratio
from dbp.errors import InvalidData

# Decoded bytes of a row group that are accepted, however few bytes the file holds for it.
ALWAYS_DECODED_BYTES: Final = 256 * 2**20


def rows_of_groups(metadata: Any) -> list[int]:
    """Return the rows of each row group, after comparing its columns with the schema.

    Raises ValueError. pyarrow ends the process where the type of a column differs.
    """
    for number, group in enumerate(_groups(metadata)):
        if group.num_columns != metadata.num_columns:
            raise ValueError(f"row group {number} has {group.num_columns} columns")
        for position, chunk in enumerate(_chunks(group)):
            column = metadata.schema.column(position)
            if (chunk.physical_type, chunk.path_in_schema) != (
                column.physical_type,
                column.path,
            ):
                raise ValueError(
                    f"row group {number}: column {position} is {chunk.physical_type} "
                    f"{chunk.path_in_schema!r}, in the schema {column.physical_type} "
                    f"{column.path!r}"
                )
    return [group.num_rows for group in _groups(metadata)]


def check_sizes(place: str, metadata: Any, names: Collection[str], row_bytes: int) -> None:
    """Raise InvalidData for row groups that grow too much when they are decoded.

    Args:
        place: The columns, for messages.
        metadata: Of the file, as pyarrow returns it.
        names: The columns that are read together, as the file spells them.
        row_bytes: Of a decoded row of these columns.
    """
    for number, group in enumerate(_groups(metadata)):
        chunks = [chunk for chunk in _chunks(group) if chunk.path_in_schema in names]
        stored = sum(chunk.total_compressed_size for chunk in chunks)
        unpacked = sum(chunk.total_uncompressed_size for chunk in chunks)
        check_ratio(place, stored=stored, announced=unpacked)
        decoded = group.num_rows * row_bytes
        if decoded > max(ALWAYS_DECODED_BYTES, MAX_RATIO * stored):
            raise InvalidData(
                f"{place}: row group {number} of {stored:,} bytes announces {decoded:,} bytes "
                f"of numbers; at most {MAX_RATIO} times as many are accepted: write the file "
                f"with more row groups (row_group_size = {ALWAYS_DECODED_BYTES // row_bytes})"
            )


def empty_columns(metadata: Any) -> set[str]:
    """Return the columns that hold nulls only, by the statistics."""
    empty: set[str] = set()
    for number, group in enumerate(_groups(metadata)):
        for chunk in _chunks(group):
            name, statistics = chunk.path_in_schema, chunk.statistics
            has_nulls = statistics is not None and statistics.has_null_count
            if has_nulls and statistics.null_count == group.num_rows > 0:
                if number == 0:
                    empty.add(name)
            elif group.num_rows:
                empty.discard(name)
    return empty


def groups_with_nulls(metadata: Any, names: Collection[str]) -> Iterator[tuple[int, str]]:
    """Yield row groups and columns among ``names`` with a null, by the statistics."""
    for number, group in enumerate(_groups(metadata)):
        for chunk in _chunks(group):
            name, statistics = chunk.path_in_schema, chunk.statistics
            if name in names and statistics is not None and statistics.null_count:
                yield number, name


def _groups(metadata: Any) -> Iterator[Any]:
    return (metadata.row_group(i) for i in range(metadata.num_row_groups))


def _chunks(group: Any) -> Iterator[Any]:
    return (group.column(i) for i in range(group.num_columns))
