"""A comparison as tables, whose columns are the runs and jobs."""

from __future__ import annotations

import string
from collections.abc import Sequence

from dbp.cli.compare.comparison import ComparedCurves, Comparison
from dbp.cli.screen.output import number_text
from dbp.text_table import aligned

# Rows of a curve that fit onto a screen.
MOST_ROWS = 20
MOST_COMPARED = len(string.ascii_uppercase)


def comparison_text(found: Comparison) -> str:
    """Return what the columns stand for, the fields that differ, the metrics, the curves."""
    letters = string.ascii_uppercase[: len(found.names)]
    width = max(len(f"{count:,}") for count in found.epochs)
    legend = [
        f"{letter}  {count:>{width},} epoch{'s' if count != 1 else ' '}  {name}"
        for letter, count, name in zip(letters, found.epochs, found.names, strict=True)
    ]
    parts = [legend, _spec_lines(found, letters), _metric_lines(found, letters)]
    parts += [_curve_lines(curves, letters) for curves in found.curves]
    return "\n\n".join("\n".join(lines) for lines in parts)


def _spec_lines(found: Comparison, letters: str) -> list[str]:
    if not found.spec:
        return ["The specs do not differ."]
    rows = [["SPEC", *letters], *([d.path, *d.texts] for d in found.spec)]
    return aligned(rows, left=range(len(letters) + 1))


def _metric_lines(found: Comparison, letters: str) -> list[str]:
    rows = [["LAST EPOCH", *_heading(letters)]]
    rows += [[summary.metric, *_cells(summary.last)] for summary in found.metrics]
    return aligned(rows)


def _curve_lines(curves: ComparedCurves, letters: str) -> list[str]:
    """Return a row for each epoch, of many for some of them, the last one included."""
    count = len(curves.epochs)
    step = -(-count // MOST_ROWS)
    shown = range(count - 1, -1, -step) if step else range(0)
    rows = [[f"{curves.metric}, EPOCH", *_heading(letters)]]
    rows += [[f"{curves.epochs[at]:,}", *_cells(curves.values[at])] for at in reversed(shown)]
    columns = [[value for value in column if value is not None] for column in _turned(curves)]
    rows.append(["least", *_cells([min(column, default=None) for column in columns])])
    rows.append(["greatest", *_cells([max(column, default=None) for column in columns])])
    return aligned(rows)


def _turned(curves: ComparedCurves) -> list[tuple[float | None, ...]]:
    return list(zip(*curves.values, strict=True))


def _heading(letters: str) -> list[str]:
    """Return the letters; each but the first has its difference to the first beside it."""
    first, *others = list(letters)
    return [first, *(text for letter in others for text in (letter, f"{letter} - {first}"))]


def _cells(values: Sequence[float | None]) -> list[str]:
    first, *others = values
    cells = [_text(first)]
    for value in others:
        is_known = first is not None and value is not None
        difference = f"{value - first:+.3g}" if is_known else "-"  # type: ignore[operator]
        cells += [_text(value), difference]
    return cells


def _text(value: float | None) -> str:
    return "-" if value is None else number_text(value)
