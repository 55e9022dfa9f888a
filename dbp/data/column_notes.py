"""Sentences about the columns of tables, for readers of any format. No file is read here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

# What a list of names shows.
LISTED: Final = 20

# Fewer rows count from 0 or 1 by chance.
LEAST_ROWS: Final = 3


def inputs_option(columns: Sequence[str | int]) -> str:
    """The option that chooses these columns, to be copied; shortened where they are many."""
    shown = [json.dumps(column, ensure_ascii=False) for column in columns[:LISTED]]
    more = ["..."] if len(columns) > LISTED or not columns else []
    return f"inputs = [{', '.join(shown + more)}]"


def nameless_index_note(column: str) -> str:
    """What was decided about a nameless column that counts the rows."""
    return (
        f"{column} has no name of its own and counts the rows from 0, as a pandas index does: "
        "it is not an input"
    )


def counting_note(column: str, base: int, others: Sequence[str | int]) -> str:
    """What to say of a first input that counts the rows, where there are others."""
    return (
        f"{column} counts the rows from {base}; if it is an index and no input: "
        f"{inputs_option(others)}"
    )
