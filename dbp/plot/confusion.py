"""Draw a confusion matrix as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from dbp.plot.picture import Form, picture
from dbp.printable import cut, printable_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Matrix = npt.NDArray[np.integer[Any]]

MOST_NUMBERED: Final = 25  # classes; above, the cells of a matrix are too small for numbers
_MOST_NAMED: Final = 60
_NAME: Final = 20  # characters


def confusion_picture(matrix: Matrix, names: Sequence[str], form: Form) -> bytes:
    """Return a picture of a confusion matrix, (classes, predicted classes), by shares of rows.

    The color of a cell is its share of the samples of its class; with up to 25 classes it also
    holds the number of samples. Raises MissingDependency without matplotlib.
    """
    shown = [cut(printable_line(name), _NAME) for name in names]

    def draw(figure: Figure) -> None:
        side = min(12.0, 3.5 + 0.4 * len(names))
        figure.set_size_inches(side + 1, side)
        axes = figure.add_subplot()
        shares = _shares(matrix)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        figure.colorbar(image, ax=axes, label="share of the actual class")
        axes.set(xlabel="predicted class", ylabel="actual class")
        _name_classes(axes, shown)
        if len(names) <= MOST_NUMBERED:
            _write_numbers(axes, matrix, shares)

    return picture(draw, form)


def _shares(matrix: Matrix) -> npt.NDArray[np.float64]:
    """Divide each row by its sum; 0 for a class without samples."""
    wholes = matrix.sum(axis=1, keepdims=True)
    shares: npt.NDArray[np.float64] = matrix / np.maximum(wholes, 1)
    return shares


def _name_classes(axes: Axes, names: Sequence[str]) -> None:
    """Write the names beside rows and columns; of very many only every n-th."""
    places = range(0, len(names), math.ceil(len(names) / _MOST_NAMED))
    texts = [names[place] for place in places]
    is_long = max(map(len, texts)) > 2
    axes.set_xticks(places, texts, rotation=90 if is_long else 0)
    axes.set_yticks(places, texts)


def _write_numbers(axes: Axes, matrix: Matrix, shares: npt.NDArray[np.float64]) -> None:
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(
                column, row, f"{count:,}", ha="center", va="center", color=color,
                fontsize="small",
            )  # fmt: skip
