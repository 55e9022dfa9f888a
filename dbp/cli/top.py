"""`dbp top`: the live table of a service's jobs."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from dbp.cli.arguments.service import connect
from dbp.cli.screen.output import can_draw, echo, first_of, service_option, table, time_text
from dbp.errors import Unavailable

if TYPE_CHECKING:
    from dbp.cli.screen.job_table import Shown
    from dbp.client.client import Client
    from dbp.job.state import Job

MOST_ACTIVE: Final = 1_000
MOST_ENDED: Final = 50


@click.command()
@click.option(
    "--every", "seconds", type=click.FloatRange(0.1, 3600), default=1, show_default=True,
    metavar="SECONDS", help="Ask the service this often.",
)  # fmt: skip
@service_option
def top(seconds: float, service: str) -> None:
    """Show the jobs of a service in a live table, until Ctrl-C.

    Running jobs come first, then those that wait, then the newest of those that have ended:
    share of the steps done, epoch, loss, main validation metric, samples per second and time to
    go. While the service is away the table keeps its last state and asks again. In a pipe the
    table is printed once; dbp jobs --output json is for programs.

    \b
    Examples:
      dbp top
      dbp top --every 5
    """
    with connect(service) as client:
        shown = _asked(client)
        if not sys.stdout.isatty() or not can_draw(os.environ):
            _print_once(shown)
            return
        try:
            _draw_live(client, shown, seconds)
        except KeyboardInterrupt:  # the usual end
            return


def _draw_live(client: Client, shown: Shown, seconds: float) -> None:
    """Draw on a screen of its own, as pagers do; the shell's comes back after it."""
    from dataclasses import replace

    from rich.console import Console
    from rich.live import Live

    from dbp.cli.screen.job_table import job_table

    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(job_table(shown, console.width, console.height), refresh=True)
            time.sleep(seconds)
            try:
                shown = _asked(client)
            except Unavailable as error:
                shown = replace(shown, trouble=f"no contact since {shown.clock}: {error}")


def _print_once(shown: Shown) -> None:
    from dbp.cli.screen.job_table import HEADINGS, heading_text, ordered, top_row

    echo(heading_text(shown))
    if shown.jobs:
        echo(table([HEADINGS, *map(top_row, ordered(shown.jobs))]))


def _asked(client: Client) -> Shown:
    """Return the jobs that the service has now; raises Unavailable."""
    from dbp.cli.screen.job_table import Shown
    from dbp.job.state import State

    active = [state for state in State if not state.terminal]
    ended = [state for state in State if state.terminal]
    jobs: list[Job] = first_of(client.jobs(*active), MOST_ACTIVE)[0]
    jobs += first_of(client.jobs(*ended), MOST_ENDED)[0]
    return Shown(jobs, f"{time_text(time.time())} UTC")
