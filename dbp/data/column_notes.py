"""Notes for the user on the columns of tables, for readers of every format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

# Names shown in a list, and in an option, which is to be copied in full.
LISTED: Final = 20
_CHOSEN: Final = 50

# What programs write for a missing value and hardly anybody calls a class, in small letters.
_MISSING: Final = frozenset(("?", "na", "n/a", "#n/a", "<na>", "null"))

# Fewer rows count from 0 or 1 by chance.
LEAST_ROWS: Final = 3


def inputs_option(columns: Sequence[str | int]) -> str:
    """Return the option that chooses these columns, to be copied; shortened where they are
    many.
    """
    shown = [json.dumps(column, ensure_ascii=False) for column in columns[:_CHOSEN]]
    more = ["..."] if len(columns) > _CHOSEN or not columns else []
    return f"inputs = [{', '.join(shown + more)}]"


def nameless_index_note(column: str) -> str:
    """Note that a nameless column that counts the rows is left out."""
    return (
        f"{column} has no name of its own and counts the rows from 0, as a pandas index does: "
        "it is not an input"
    )


def counting_note(column: str, base: int, others: Sequence[str | int]) -> str:
    """Note on a first input that counts the rows, where there are others."""
    return (
        f"{column} counts the rows from {base}; if it is an index and no input: "
        f"{inputs_option(others)}"
    )


def missing_class_notes(names: Sequence[str]) -> tuple[str, ...]:
    """Note on classes whose names stand for a missing value."""
    return tuple(
        f"the target's class {name!r} looks like a missing value; if it is one, leave its rows "
        "out of the file"
        for name in names
        if name.lower() in _MISSING
    )
