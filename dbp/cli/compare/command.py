"""`dbp compare`: show how runs and jobs differ."""

from __future__ import annotations

import click

from dbp.cli.arguments.job import SOURCE
from dbp.cli.screen.output import echo, echo_json, output_option, service_option
from dbp.errors import InvalidInput


@click.command()
@click.argument("sources", nargs=-1, required=True, type=SOURCE, metavar="RUN_OR_JOB...")
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME",
    help="Show this metric by epoch; may be repeated.  "
    "[default: validation_loss, else training_loss]",
)  # fmt: skip
@service_option
@output_option
def compare(
    sources: tuple[str, ...], metrics: tuple[str, ...], service: str, output: str
) -> None:
    """Show how runs and jobs differ: their specs, and their metrics.

    RUN_OR_JOB is the folder of a run, or a job of the service; both may still be training.
    Prints the fields of their specs that differ, defaults included, the metrics of their last
    epochs, and the curve of a metric by epoch, each beside its difference to the first.

    \b
    Examples:
      dbp compare runs/one runs/two
      dbp compare runs/one digits-7k2m9q --metric validation_accuracy
      dbp compare digits-7k2m9q digits-3p8x1d --output json
    """
    from dbp.cli.arguments.figures import read_figures
    from dbp.cli.compare.comparison import compare_figures
    from dbp.cli.compare.table import MOST_COMPARED, comparison_text

    count = len(dict.fromkeys(sources))
    if not 2 <= count <= MOST_COMPARED:
        raise InvalidInput(
            f"name 2 to {MOST_COMPARED} different runs or jobs to compare, got {count}"
        )
    found = compare_figures(read_figures(sources, service), metrics)
    if output == "json":
        echo_json(found.to_json())
    else:
        echo(comparison_text(found))
