"""``dbp bench``: measure a training step on this machine beside other frameworks."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, final

import click

from dbp.cli.arguments.ranges import SMALL_COUNT
from dbp.cli.screen.output import echo, echo_json, output_option
from dbp.cores import core_count
from dbp.errors import InvalidInput
from dbp.exit_codes import DONE, FAILED, INTERRUPTED
from dbp.launching import detect, set_thread_counts

if TYPE_CHECKING:  # they load numpy, whose threads must be set first
    from dbp.bench.rounds import Measured, Settings

WORKLOADS: Final = ("small", "medium", "wide", "lenet")
USUAL: Final = ("small", "medium", "lenet")
TERMINATED: Final = 128 + signal.SIGTERM


@click.command()
@click.option(
    "--workload", "workloads", type=click.Choice(WORKLOADS), multiple=True,
    help=f"Measure this workload; can be repeated.  [default: {', '.join(USUAL)}]",
)  # fmt: skip
@click.option(
    "--workers", "-n", type=SMALL_COUNT,
    help="Processes of dbp, or threads of other frameworks.  [default: the cores]",
)  # fmt: skip
@click.option(
    "--rounds", type=SMALL_COUNT, default=3, show_default=True,
    help="Measure everything this many times, in turns.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(1), default=60, show_default=True,
    help="Start no measurement after this time.",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="One round of small, without other frameworks.")
@click.option("--no-peers", is_flag=True, help="Leave out other frameworks.")
@click.option(
    "--compiled", is_flag=True, help="Add torch.compile, which compiles for up to a minute."
)
@output_option
def bench(
    workloads: tuple[str, ...],
    workers: int | None,
    rounds: int,
    seconds: float,
    quick: bool,
    no_peers: bool,
    compiled: bool,
    output: str,
) -> None:
    """Measure a training step on this machine: dbp and other frameworks.

    All programs train the same model on the same mini-batches from the same initial parameters;
    their losses show it. dbp runs one process a core, with the default exact numerics and with
    fast ones. "products" are the matrix products of the step alone, which no program can leave
    out. PyTorch (one process, and DistributedDataParallel) and JAX are measured at their best
    settings if they are installed: pip install 'dbp[bench]'.

    \b
    Examples:
      dbp bench                        about a minute
      dbp bench --quick                a few seconds
      dbp bench --workload wide -n 4   one workload, on four cores
      dbp bench --output json          for programs

    Programs are measured in turns, each in processes of its own. A time is the median over the
    rounds of the median step; least and most show the spread. A ratio above 1 means that dbp is
    faster. Measure on an idle machine. Ctrl-C ends the command and prints the figures so far.
    """
    if detect(os.environ) is not None:
        raise InvalidInput(
            "dbp bench starts all processes itself: start it without mpirun, and give their "
            "number: dbp bench -n N"
        )
    set_thread_counts(os.environ)
    signal.signal(signal.SIGTERM, _terminated)
    from dbp.bench.column import COLUMNS, MAIN, PEERS
    from dbp.bench.rounds import Measured, Settings
    from dbp.bench.workload import WORKLOADS as SIZES

    chosen = workloads or (USUAL[:1] if quick else USUAL)
    most = min(SIZES[name].batch_size for name in chosen)
    if workers is not None and workers > most:
        raise InvalidInput(
            f"-n {workers}: each process needs a sample of every mini-batch; at most -n {most}"
        )
    columns = [
        name
        for name in MAIN
        if not ((quick or no_peers) and name in PEERS)
        and (compiled or not COLUMNS[name].compiled)
    ]
    settings = Settings(chosen, columns, 1 if quick else rounds, seconds)
    measured = Measured()
    code = _measure(settings, workers or core_count(), measured)
    _print(measured, workers or core_count(), output)
    sys.exit(code)


def _measure(settings: Settings, cores: int, measured: Measured) -> int:
    """Fill ``measured``; return the exit code."""
    from dbp.bench.measurement import Bench
    from dbp.bench.rounds import measure

    status = _Status()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="dbp-bench-") as folder,
            Bench.making(Path(folder), cores) as made,
        ):
            measure(made, settings, show=status.show, measured=measured)
    except KeyboardInterrupt:
        status.clear()
        echo("interrupted: the figures are those of the measurements before", err=True)
        return INTERRUPTED
    finally:
        status.clear()
    return DONE


def _print(measured: Measured, cores: int, output: str) -> None:
    """Print the figures; exit with FAILED where programs have trained differently."""
    from dbp.bench.figures import Figures
    from dbp.bench.machine import facts
    from dbp.bench.table import text

    figures = Figures.of(measured, facts(), cores)
    if output == "json":
        echo_json(figures.to_json())
    else:
        echo(text(figures))
    if figures.odd_losses():
        sys.exit(FAILED)


@final
class _Status:
    """One line on stderr: drawn over on a terminal, else a new line each time."""

    def __init__(self) -> None:
        self._draws = sys.stderr.isatty()
        self._shown = False

    def show(self, line: str) -> None:
        """Show the measurement that begins."""
        self.clear()
        click.echo(f"{line} ...", err=True, nl=not self._draws)
        self._shown = self._draws

    def clear(self) -> None:
        """Remove the line from a terminal."""
        if self._shown:
            click.echo("\r\033[K", err=True, nl=False)
            self._shown = False


def _terminated(number: int, frame: object) -> NoReturn:
    raise SystemExit(TERMINATED)
