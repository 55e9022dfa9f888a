"""Draw curves in a terminal with plotext, which is imported only here, when it draws."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dbp.errors import MissingDependency
from dbp.plot.curves import Plot, value_range
from dbp.plot.picture import EXTRA
from dbp.plot.ticks import linear_ticks, log_ticks, tick_text
from dbp.printable import cut, printable_line
from dbp.text_table import aligned

LEAST_WIDTH: Final = 40
LEAST_HEIGHT: Final = 8
_NAME: Final = 60  # characters
_X_TICK: Final = 12  # columns of a tick and its space
_Y_TICKS: Final = 6

# In the order of use, again from the first where there are more curves. Without colors each
# curve has a character of its own, since lines of blocks would look all the same.
_COLORS: Final = ("cyan", "red", "green", "magenta", "blue", "yellow")
_CHARACTERS: Final = ("*", "o", "+", "x", "#", "@")
_LINE: Final = "hd"  # blocks of a quarter of a cell
_STYLE: Final = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Canvas:
    """The size of a plot in columns and lines, without its legend; whether it has colors."""

    width: int
    height: int
    color: bool


def terminal_text(plot: Plot, canvas: Canvas) -> str:
    """Return the plot as lines of text, with a legend below it.

    Without color the text has no escape sequence. Raises MissingDependency without plotext.
    """
    try:
        import plotext
    except ImportError as error:
        raise MissingDependency(
            f"curves in a terminal need plotext ({error}); install it with: {EXTRA}; with -o "
            "curve.png they become a picture"
        ) from error
    plotext.terminal.limit(width=False, height=False)  # to its own idea of the terminal
    figure: Any = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.canvas("default")
    figure.legend(False)
    figure.plot_size(max(canvas.width, LEAST_WIDTH), max(canvas.height, LEAST_HEIGHT))
    for place, curve in enumerate(plot.curves):
        marker = plotext.marker(*_marker(place, color=canvas.color))
        drawn = figure.signal(list(curve.x), _scaled(curve.y, log=plot.log), marker=marker)
        drawn.lines()
        figure.draw(drawn)
    _set_axes(figure, plot, canvas)
    text = str(figure.build())
    figure.clear()
    plotext.terminal.clear()
    lines = text.splitlines() if canvas.color else _STYLE.sub("", text).splitlines()
    return "\n".join([*(line.rstrip() for line in lines), *_legend(plot, color=canvas.color)])


def _marker(place: int, *, color: bool) -> tuple[str, str]:
    """Return the symbol and the color of a curve."""
    if color:
        return _LINE, _COLORS[place % len(_COLORS)]
    return _CHARACTERS[place % len(_CHARACTERS)], "default"


def _scaled(values: Sequence[float], *, log: bool) -> list[float]:
    """Return the heights of values: their logarithms on a logarithmic scale."""
    return [math.log10(value) for value in values] if log else list(values)


def _set_axes(figure: Any, plot: Plot, canvas: Canvas) -> None:
    figure.label(plot.x_label)
    low, high = value_range(x for curve in plot.curves for x in curve.x)
    whole = plot.x_label in ("step", "epoch")
    ticks = linear_ticks(low, high, max(2, canvas.width // _X_TICK), whole=whole)
    _set_axis(figure.ruler("x"), (low, high), ticks, ticks)
    low, high = value_range((y for curve in plot.curves for y in curve.y), log=plot.log)
    of_values = log_ticks if plot.log else linear_ticks
    ticks = of_values(low, high, _Y_TICKS)
    bottom, top = _scaled((low, high), log=plot.log)
    _set_axis(figure.ruler("y"), (bottom, top), _scaled(ticks, log=plot.log), ticks)


def _set_axis(
    ruler: Any, limits: tuple[float, float], places: Sequence[float], ticks: Sequence[float]
) -> None:
    ruler.lim(*limits)
    ruler.ticks(list(places), [tick_text(tick) for tick in ticks])


def _legend(plot: Plot, *, color: bool) -> Iterator[str]:
    """Yield a line for each curve: its mark, its name, its last and its extreme values."""
    rows = [["", "", "last", "lowest", "highest"]]
    for curve in plot.curves:
        name = cut(printable_line(plot.label(curve)), _NAME)
        rows.append(["*", name, *map(_value, (curve.y[-1], min(curve.y), max(curve.y)))])
    heading, *lines = aligned(rows, left=(0, 1))
    yield heading
    for place, line in enumerate(lines):
        yield _mark(place, color=color) + line[1:]


def _mark(place: int, *, color: bool) -> str:
    symbol, name = _marker(place, color=color)
    if not color:
        return symbol
    number = {"red": 1, "green": 2, "yellow": 3, "blue": 4, "magenta": 5, "cyan": 6}[name]
    return f"\x1b[38;5;{number}m▄\x1b[0m"


def _value(value: float) -> str:
    return f"{value:.4g}"
