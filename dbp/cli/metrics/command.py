"""`dbp metrics`: show or write the metrics history of jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from dbp.cli.arguments.job import JOB, METRIC
from dbp.cli.arguments.service import connect, find_job
from dbp.cli.metrics.ranges import MOMENT, STEPS
from dbp.cli.screen.output import echo, echo_json, service_option, writing
from dbp.errors import InvalidInput

if TYPE_CHECKING:
    from dbp.client.metrics import JobMetrics

FORMATS: Final = ("text", "json", "csv", "jsonl", "parquet")
# Rows of a table that fit onto a screen; points of a metric in the other formats.
SCREEN_POINTS: Final = 20
FILE_POINTS: Final = 1_000
MAX_POINTS: Final = 10_000


@click.command()
@click.argument("jobs", type=JOB, nargs=-1, required=True, metavar="JOB...")
@click.option(
    "--name", "names", type=METRIC, multiple=True, metavar="METRIC",
    help="Only this metric, such as loss; may be repeated.  [default: all]",
)  # fmt: skip
@click.option(
    "--steps", type=STEPS, metavar="FIRST:LAST",
    help="Only these steps; FIRST or LAST may be left out.",
)  # fmt: skip
@click.option(
    "--since", type=MOMENT, metavar="TIME",
    help="Only what was reported since 10min or 2h ago, or since 2026-01-31T18:00 (UTC).",
)  # fmt: skip
@click.option("--until", type=MOMENT, metavar="TIME", help="Only what was reported until then.")
@click.option(
    "--points", type=click.IntRange(1, MAX_POINTS),
    help="Points of a metric at most; neighbouring ones are merged.  "
    f"[default: {SCREEN_POINTS} as text, else {FILE_POINTS:,}]",
)  # fmt: skip
@click.option(
    "--output", type=click.Choice(FORMATS), default="text", show_default=True,
    help="Format: a table; json has a list for each column, the others a row for each point.",
)  # fmt: skip
@click.option(
    "-o", "--out", "file", type=click.Path(path_type=Path), metavar="FILE",
    help="File to write instead of standard output; parquet needs one.",
)  # fmt: skip
@service_option
def metrics(
    jobs: tuple[str, ...],
    names: tuple[str, ...],
    steps: tuple[int | None, int | None] | None,
    since: float | None,
    until: float | None,
    points: int | None,
    output: str,
    file: Path | None,
    service: str,
) -> None:
    """Show the metrics history of each JOB, running or ended.

    A job has one history across its attempts, pauses and roll-backs; steps that were taken
    again are marked by a star. A row is over the steps of several reports: it has their mean
    (learning rate, speed, loss), and the least and the greatest loss, so that no peak is lost.
    Metrics of epochs have a table of their own.

    \b
    Examples:
      dbp metrics digits-7k2m9q
      dbp metrics digits-7k2m9q --name loss --since 10min --points 100
      dbp metrics digits-7k2m9q digits-3p8x1d --output csv -o losses.csv
      dbp metrics digits-7k2m9q --output parquet -o losses.parquet
    """
    if output == "parquet" and file is None:
        raise InvalidInput("a Parquet file cannot be shown; add -o FILE, or use --output csv")
    limit = points or (SCREEN_POINTS if output == "text" else FILE_POINTS)
    with connect(service) as client:
        found = []
        for job in jobs:
            handle = find_job(client, job)
            try:
                history = handle.metrics(
                    names, steps=steps, since=since, until=until, points=limit
                )
            except InvalidInput as error:
                raise InvalidInput(f"job {handle.id}: {error}") from error
            found.append(history)
    if file is None:
        _print(found, output)
    else:
        _write(found, output, file)


def _print(found: list[JobMetrics], output: str) -> None:
    from dbp.cli.metrics.rows import csv_text, records, series_content

    if output == "json":
        echo_json(series_content(found))
    elif output == "jsonl":
        for record in records(found):
            echo_json(record)
    elif output == "csv":
        echo(csv_text(found), nl=False)
    else:
        echo(_text(found))
        _explain(found)


def _write(found: list[JobMetrics], output: str, file: Path) -> None:
    from dbp.cli.metrics.rows import csv_text, parquet_bytes, records, series_content
    from dbp.cli.screen.output import json_text
    from dbp.storage.atomic_file import write_file

    if output == "parquet":
        content = parquet_bytes(found)
    elif output == "csv":
        content = csv_text(found).encode()
    elif output == "text":
        content = f"{_text(found)}\n".encode()
    else:
        values = [series_content(found)] if output == "json" else records(found)
        content = "".join(f"{json_text(value)}\n" for value in values).encode()
    with writing(file):
        write_file(file, [content])
    echo(f"written to {file} ({len(content):,} bytes)")


def _text(found: list[JobMetrics]) -> str:
    """Return the tables of all jobs."""
    from dbp.cli.metrics.table import tables

    parts = []
    for history in found:
        lines = tables(history)
        if not lines:
            none = "no points in this range" if history else "no metrics yet"
            lines = [f"{history.job_id}: {none}"]
        elif len(found) > 1:
            lines = [f"{history.job_id}:", *lines]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _explain(found: list[JobMetrics]) -> None:
    """Print on stderr what the star means, where there is one."""
    from dbp.cli.metrics.table import RETAKEN, is_retaken

    if any(map(is_retaken, found)):
        echo(
            f"note: {RETAKEN} steps taken again, by a later attempt or after a roll-back: the "
            "values are those of the last time",
            err=True,
        )
