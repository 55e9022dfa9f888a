"""Order the columns of a table with names as the model's inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dbp.client.number_array import number_array
from dbp.column_names import Columns, check_table, normalized_name
from dbp.errors import InvalidData, InvalidInput


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
