"""Inputs of ``predict``: rows of numbers, or a table matched to the model by column names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dbp.client.arguments import shown, wrong_type
from dbp.column_names import Columns, check_table, normalized_name
from dbp.errors import InvalidArgument, InvalidData, InvalidInput, InvalidType

Array = npt.NDArray[Any]


def number_array(name: str, rows: npt.ArrayLike) -> Array:
    """Return rows as an array of numbers or booleans.

    Raises InvalidArgument for rows of different lengths, masked values and integers beyond 64
    bits; InvalidType for anything that is not numbers: text, times, None, mappings, generators.
    """
    if isinstance(rows, str | bytes):
        raise InvalidType(
            f"{name}: must be rows of numbers, got {type(rows).__name__} {shown(rows)}; "
            "read a file first, for instance with numpy.load"
        )
    if isinstance(rows, np.ma.MaskedArray) and np.ma.is_masked(rows):
        row = _row(tuple(np.argwhere(np.ma.getmaskarray(rows))[0]))
        raise InvalidArgument(f"{name}: row {row} has masked values; use .filled(VALUE)")
    if isinstance(rows, Mapping | Iterator):
        raise InvalidType(
            f"{name}: must be rows of numbers, got {type(rows).__name__}; pass a list or array"
        )
    try:
        array = np.asarray(rows)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidArgument(f"{name}: {_ragged(rows) or error}") from error
    if array.dtype.kind in "OUSMmV" and array.dtype.name != "bfloat16":
        raise _not_numbers(name, array)
    return array


def column_names(inputs: Any) -> tuple[Any, ...]:
    """Return the names of a table's columns; () for arrays and for columns that are only
    numbered.

    pandas numbers the columns of a DataFrame from 0 if they have no names.
    """
    names = getattr(inputs, "column_names", None)  # pyarrow
    if names is None:
        names = getattr(inputs, "columns", None)  # pandas, polars
    if names is None or isinstance(inputs, np.ndarray):
        return ()
    found = tuple(names)
    return () if found == tuple(range(len(found))) else found


def in_order(table: Any, names: tuple[Any, ...], columns: Columns) -> npt.ArrayLike:
    """Return the inputs of a table, shape (rows, inputs), in the model's order; InvalidInput.

    Returns the table unchanged if the model's inputs have no names.
    """
    if not columns.inputs:
        unnamed: npt.ArrayLike = table
        return unnamed
    try:
        check_table([normalized_name(str(name)) for name in names], columns)
    except InvalidData as error:
        raise InvalidInput(f"inputs: {error}") from error
    keys = {normalized_name(str(name)): name for name in names}
    arrays = (number_array(f"inputs: column {n!r}", table[keys[n]]) for n in columns.inputs)
    return np.stack(list(arrays), axis=1)


def _ragged(rows: Any) -> str:
    """Return how the first row that differs in shape from row 0 does so; "" if none does."""
    try:
        shapes = [np.shape(row) for row in rows]
    except (ValueError, TypeError, OverflowError):
        return ""
    for number, shape in enumerate(shapes):
        if shape != shapes[0]:
            return (
                f"rows must have one shape, got {shapes[0]} in row 0, {shape} in row {number}"
            )
    return ""


def _not_numbers(name: str, array: Array) -> InvalidType | InvalidArgument:
    """Return the error for an array that holds anything but numbers; names the first."""
    for index, value in np.ndenumerate(array):
        if isinstance(value, int) and not isinstance(value, bool):
            if not -(2**63) <= value < 2**64:
                return InvalidArgument(
                    f"{name}: row {_row(index)} has {shown(value)}, which no 64-bit integer "
                    "holds; use floats"
                )
        elif not isinstance(value, float | np.number | np.bool_ | bool):
            plain = value.item() if isinstance(value, np.generic) else value
            return wrong_type(name, "numbers", plain, f" in row {_row(index)}")
    return InvalidType(f"{name}: must be numbers, got {array.dtype}; use .astype(float)")


def _row(index: tuple[int, ...]) -> int:
    return index[0] if index else 0
