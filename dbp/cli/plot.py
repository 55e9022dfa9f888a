"""`dbp plot`: curves of metrics in the terminal, or as a picture."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dbp.cli.arguments.job import SOURCE
from dbp.cli.screen.output import (
    can_draw,
    echo,
    echo_json,
    output_option,
    service_option,
    writing,
)
from dbp.json_value import JsonValue

if TYPE_CHECKING:
    from dbp.plot.curves import Axis, Plot
    from dbp.plot.terminal import Canvas

AXES: Final[tuple[Axis, ...]] = ("epoch", "step", "time")
FEWEST_LINES: Final = 10
MOST_LINES: Final = 30


@click.command()
@click.argument("runs", nargs=-1, required=True, type=SOURCE, metavar="RUN_OR_JOB...")
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME",
    help="Plot this metric; may be repeated.  [default: loss]",
)  # fmt: skip
@click.option("--log", is_flag=True, help="Use a logarithmic scale for the values.")
@click.option(
    "--x", "axis", type=click.Choice(AXES), default="epoch", show_default=True,
    help="Horizontal axis.",
)  # fmt: skip
@click.option(
    "-o", "--out", "file", type=click.Path(path_type=Path), metavar="FILE",
    help="Picture to write instead: .png or .svg.",
)  # fmt: skip
@service_option
@output_option
def plot(
    runs: tuple[str, ...],
    metrics: tuple[str, ...],
    log: bool,
    axis: Axis,
    file: Path | None,
    service: str,
    output: str,
) -> None:
    """Plot the metrics of runs and jobs over their epochs; several share one plot.

    RUN_OR_JOB is the folder of a run, or a job of the service; both may still be training. NAME
    is a metric as metrics.jsonl has it (validation_accuracy, learning_rate), or without its
    beginning: accuracy means training_accuracy and validation_accuracy. The plot is as wide as
    the terminal, and plain text in a pipe, or where NO_COLOR is set. Needs an extra: pip
    install 'dbp[plot]'.

    \b
    Examples:
      dbp plot runs/digits
      dbp plot runs/one runs/two --metric validation_loss --log
      dbp plot runs/digits --metric accuracy --x time
      dbp plot digits-7k2m9q runs/digits -o curve.png
    """
    from dbp.cli.arguments.figures import read_figures
    from dbp.plot.curves import make_plot

    if file is not None:
        from dbp.plot.picture import picture_form

        picture_form(file)
    sources = [figures.curves for figures in read_figures(runs, service)]
    found = make_plot(sources, metrics or ("loss",), axis, log=log)
    if file is not None:
        _write(file, found)
    if output == "json":
        _print_json(found, file)
    elif file is not None:
        echo(f"written to {file}")
    else:
        _print_plot(found)


def _write(file: Path, plot: Plot) -> None:
    from dbp.plot.curve_picture import curve_picture
    from dbp.plot.picture import picture_form
    from dbp.storage.atomic_file import write_file

    content = curve_picture(plot, picture_form(file))
    with writing(file):
        write_file(file, [content])


def _print_json(plot: Plot, file: Path | None) -> None:
    curves: list[JsonValue] = [
        {"run": curve.source, "metric": curve.metric, "x": [*curve.x], "y": [*curve.y]}
        for curve in plot.curves
    ]
    written = {} if file is None else {"file": str(file)}
    echo_json({"x": plot.x_label, "curves": curves, **written})


def _print_plot(plot: Plot) -> None:
    """Print the curves; their text has been made safe, and colors must pass."""
    from dbp.plot.terminal import terminal_text

    click.echo(terminal_text(plot, _canvas(len(plot.curves))), color=None)


def _canvas(curves: int) -> Canvas:
    """Return the size that the terminal leaves beside the legend and the next prompt."""
    from dbp.plot.terminal import Canvas

    size = shutil.get_terminal_size((80, 24))
    height = max(FEWEST_LINES, min(MOST_LINES, size.lines - curves - 2))
    color = sys.stdout.isatty() and can_draw(os.environ) and not os.environ.get("NO_COLOR")
    return Canvas(size.columns, height, color)
