"""Notes for the user on the columns of tables, for readers of every format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from dbp.data_access import hides_contents

# Names shown in a list, and in an option, which is to be copied in full.
LISTED: Final = 20
_CHOSEN: Final = 50

# Texts that programs write for a missing value, rarely names of a class; in lower case.
_MISSING: Final = frozenset(("?", "na", "n/a", "#n/a", "<na>", "null"))

# Above it float64 does not hold every whole number; identifiers have at most 64 bits.
_EXACT: Final = 2.0**53
_IDENTIFIERS: Final = 2.0**64

# With fewer rows, a column can count them by chance.
LEAST_ROWS: Final = 3


def inputs_option(columns: Sequence[str | int]) -> str:
    """Return the option that chooses these columns, to be copied; shortened where they are
    many.
    """
    shown = [json.dumps(column, ensure_ascii=False) for column in columns[:_CHOSEN]]
    more = ["..."] if len(columns) > _CHOSEN or not columns else []
    if hides_contents():
        return "inputs = [...]"
    return f"inputs = [{', '.join(shown + more)}]"


def nameless_index_note(column: str) -> str:
    """Return a note that a nameless column that counts the rows is ignored."""
    return (
        f"{column} has no name of its own and counts the rows from 0, as a pandas index does: "
        "it is not an input"
    )


def counting_note(column: str, base: int, others: Sequence[str | int]) -> str:
    """Return a note on a first input that counts the rows, if there are other inputs."""
    return (
        f"{column} counts the rows from {base}; if it is an index and no input: "
        f"{inputs_option(others)}"
    )


def rounded_columns(inputs: npt.NDArray[np.float64]) -> list[int]:
    """Return the columns of whole numbers, shape (rows, columns), some of which are rounded."""
    largest = inputs.max(axis=0)
    columns = np.flatnonzero((largest > _EXACT) & (largest < _IDENTIFIERS)).tolist()
    return [c for c in columns if (inputs[:, c] == np.floor(inputs[:, c])).all()]


def rounded_note(column: str) -> str:
    """Return a note that whole numbers of a column are rounded."""
    return (
        f"{column} holds whole numbers above 2**53, which are rounded; if it is an identifier "
        "and no input, leave it out"
    )


def missing_class_notes(names: Sequence[str]) -> tuple[str, ...]:
    """Return notes on classes whose names look like a missing value."""
    return tuple(
        f"the target's class {name!r} looks like a missing value; if it is one, leave its rows "
        "out of the file"
        for name in names
        if name.lower() in _MISSING
    )
