"""Rows as aligned columns of text."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(
    rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,), gap: str = "  "
) -> list[str]:
    """Return a line for each row; columns are aligned to the right, those in ``left`` not.

    ``gap`` separates the columns.

    >>> aligned([["name", "ms"], ["a", "1.25"], ["long name", "12"]])
    ['name         ms', 'a          1.25', 'long name    12']
    """
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        gap.join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
