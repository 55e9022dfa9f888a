"""Decide from the cells of line 1 of a text file whether it is a header."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Literal

from dbp.data.number_text import is_bad_value, number

# "counts": the line numbers the columns, as pandas writes unnamed ones; whether it is a header
# or a sample may still depend on the targets of the other lines.
Verdict = Literal["header", "sample", "counts"]

# pandas gives nameless columns of a text file such names.
_UNNAMED = re.compile(r"Unnamed: \d+(\.\d+)?(_level_\d+)?")


def is_nameless(name: str) -> bool:
    """Return whether a column has no name of its own."""
    return not name or _UNNAMED.fullmatch(name) is not None


def judge(cells: Sequence[str], inputs: Collection[int]) -> Verdict | None:
    """Judge line 1 by its input cells; None: they do not decide.

    None means that the input cells are all missing or damaged values, or the single cell 0,
    which pandas writes above a single column.
    """
    found = [cells[position] for position in inputs]
    if all(number(cell) is None for cell in found):
        return None if all(map(is_bad_value, found)) else "header"
    if not _counts(cells, inputs):
        return "sample"
    if not cells[0] and len(cells) > 1:
        return "header"  # a nameless first cell is no number, so this is no sample
    if sum(number(cell) is not None for cell in cells) > 1:
        return "counts"
    return None if list(cells) == ["0"] else "sample"


def counts(names: Sequence[str]) -> bool:
    """Return whether names are just numbers counted from 0 or from 1."""
    return any(list(names) == [str(n + base) for n in range(len(names))] for base in (0, 1))


def _counts(cells: Sequence[str], inputs: Collection[int]) -> bool:
    """Return whether the cells number the columns from 0 or 1; others may have names.

    Counted are all columns but a nameless first one, or the inputs alone.
    """
    inputs = frozenset(inputs)
    first = 1 if not cells[0] and len(cells) > 1 else 0
    positions = range(first, len(cells))
    names = {p for p in positions if p not in inputs and number(cells[p]) is None}
    numbers = [p for p in positions if p not in names]
    found = [cells[p] for p in numbers]
    by_position = [p - first for p in numbers]
    alone = list(range(len(numbers))) if all(p in inputs for p in numbers) else by_position
    return any(
        found == [str(n + base) for n in counted]
        for counted in (by_position, alone)
        for base in (0, 1)
    )
