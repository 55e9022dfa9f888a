"""Draw curves as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dbp.plot.curves import Plot
from dbp.plot.picture import Form, picture
from dbp.printable import cut, printable_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAME: Final = 60  # characters
_FEW: Final = 30  # points that are marked one by one


def curve_picture(plot: Plot, form: Form) -> bytes:
    """Return a picture of the curves; raises MissingDependency without matplotlib."""

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        figure.set_size_inches(8, 5)
        axes = figure.add_subplot()
        for curve in plot.curves:
            mark = "." if len(curve.x) <= _FEW else ""
            name = cut(printable_line(plot.label(curve)), _NAME)
            axes.plot(curve.x, curve.y, label=name, marker=mark)
        axes.set(xlabel=plot.x_label, ylabel=plot.y_label)
        if plot.x_label in ("step", "epoch"):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if plot.log:
            axes.set_yscale("log")
        axes.grid(visible=True, alpha=0.3)
        axes.legend()

    return picture(draw, form)
