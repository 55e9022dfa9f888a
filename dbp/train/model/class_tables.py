"""Tables of classes as lines of text: confusion matrix, frequent confusions, figures.

Columns are aligned, and no line of a confusion matrix is longer than the width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from dbp.nn.class_counts import Counts
from dbp.text_table import aligned

Figures = npt.NDArray[np.float64]

SHOWN_CONFUSIONS: Final = 20
SHOWN_CLASSES: Final = 100
_LISTED: Final = 10
_NO_FIGURE: Final = "-"


def matrix_lines(matrix: Counts, names: Sequence[str], width: int) -> Iterator[str]:
    """Yield the matrix: headed by names if these fit, else by numbers; else in blocks."""
    cells = [[f"{count:,}" if count else "." for count in row] for row in matrix.tolist()]
    numbers = [str(number) for number in range(len(names))]
    numbered = [f"{number} {name}" for number, name in zip(numbers, names, strict=True)]
    if list(names) == numbers:
        numbered = numbers
    for heads, rows in ((names, names), (numbers, numbered)):
        for gap in ("  ", " "):
            lines = _grid(heads, rows, cells, gap)
            if max(map(len, lines)) <= width:
                yield from lines
                return
    label = max(map(len, numbered))
    column = max(len(cell) for row in [numbers, *cells] for cell in row) + 1
    blocks = math.ceil(len(names) / max(1, (width - label) // column))
    for block in range(blocks):
        part = slice(len(names) * block // blocks, len(names) * (block + 1) // blocks)
        if block:
            yield ""
        yield from _grid(numbers[part], numbered, [row[part] for row in cells], " ")


def _grid(
    heads: Sequence[str], rows: Sequence[str], cells: Sequence[Sequence[str]], gap: str
) -> list[str]:
    body = [[name, *row] for name, row in zip(rows, cells, strict=True)]
    return aligned([["", *heads], *body], gap=gap)


def confusion_lines(
    confusions: Sequence[tuple[int, int, int]], support: Counts, names: Sequence[str]
) -> Iterator[str]:
    """Yield the most frequent confusions: class, predicted class, samples."""
    if not confusions:
        yield "No sample is predicted as another class."
        return
    more = " (the most frequent ones)" if len(confusions) > SHOWN_CONFUSIONS else ""
    yield f"Confusions{more}:"
    rows = [["actual class", "predicted class", "samples", "of the class"]]
    for actual, predicted, count in confusions[:SHOWN_CONFUSIONS]:
        part = f"{count / int(support[actual]):.1%}"
        rows.append([names[actual], names[predicted], f"{count:,}", part])
    yield from aligned(rows, left=(0, 1))


def class_lines(
    names: Sequence[str],
    figures: Figures,
    support: Counts,
    totals: Sequence[tuple[str, Sequence[float | None]]],
) -> Iterator[str]:
    """Yield the table of classes: ``figures``, (classes, 3), are precision, recall and F1.

    ``totals`` are the last rows: their names and figures.
    """
    shown = list(range(len(names)))
    if len(names) > SHOWN_CLASSES:
        # argsort puts NaN last: classes without figures are the first to be left out.
        shown = sorted(np.argsort(figures[:, 2], kind="stable")[:SHOWN_CLASSES].tolist())
        yield f"The {SHOWN_CLASSES:,} classes with the lowest F1, of {len(names):,}:"
    rows = [["class", "precision", "recall", "F1", "support"]]
    for number in shown:
        cells = [_figure(value) for value in figures[number].tolist()]
        rows.append([names[number], *cells, f"{support[number]:,}"])
    for name, values in totals:
        cells = ["" if value is None else _figure(value) for value in values]
        rows.append([name, *cells, f"{support.sum():,}"])
    yield from aligned(rows)


def _figure(value: float) -> str:
    return _NO_FIGURE if math.isnan(value) else f"{value:.4f}"


def empty_class_lines(
    names: Sequence[str], predicted: Counts, support: Counts
) -> Iterator[str]:
    """Yield a sentence for each kind of empty class that there is."""
    guessed, real = predicted > 0, support > 0
    cases = (
        (real & ~guessed, "Never predicted, so that the precision is 0"),
        (guessed & ~real, "Not in this data set, so that the recall is 0"),
        (~guessed & ~real, "Neither in this data set nor predicted, so in no average"),
    )
    for chosen, text in cases:
        numbers = np.flatnonzero(chosen).tolist()
        if numbers:
            listed = ", ".join(names[number] for number in numbers[:_LISTED])
            more = len(numbers) - _LISTED
            yield f"{text}: {listed}{f' and {more:,} more' if more > 0 else ''}."
