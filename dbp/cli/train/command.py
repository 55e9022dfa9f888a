"""``dbp train``: run a job here, as one process or as one rank of ``mpirun -n P dbp train``."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dbp.cli.mpirun.terminal import kills_ranks, rank_console, shows_terminal
from dbp.cli.screen.output import can_draw, echo, echo_json, output_option
from dbp.cli.train.preparation import (
    join_service,
    prepare_folder,
    refuse_on_all_ranks,
    report_once,
)
from dbp.cli.train.profiling import check_profile, make_profile, profile_option, write_profile
from dbp.cli.train.resumption import (
    folder_to_resume,
    longer_of,
    next_command,
    read_document,
    resume_options,
    resume_terms,
)
from dbp.errors import DbpError, InvalidInput
from dbp.exit_codes import BAD_INPUT, DONE, exit_code_of
from dbp.launching import Launch, detect, oversubscription, set_thread_counts
from dbp.lossy_output import make_output_lossy
from dbp.quantities import count_text

if TYPE_CHECKING:  # these load numpy, whose threads must be set first
    from dbp.job.spec.resolve import ResolvedSpec
    from dbp.job.state import RunOutcome
    from dbp.train.check.inspection import Inspected
    from dbp.train.report.sink import Control, Sink, Started
    from dbp.train.state.extension import Longer
    from dbp.train.stop_signals import StopSignals

ALONE: Final = Launch("none", 0, 1, 1)


@dataclass(frozen=True)
class Request:
    """Arguments of the command line."""

    spec: Path
    folder: Path | None
    resume: bool
    overwrite: bool
    new_data: bool
    service: str | None
    longer: Longer
    quiet: bool
    output: str
    profile: str | None = None


@click.command()
@click.argument("spec", type=click.Path(path_type=Path), required=False)
@click.option(
    "--workers",
    "-n",
    type=click.IntRange(1),
    help="Train with this many processes, started by mpirun.",
)
@click.option(
    "--run", "folder", type=click.Path(path_type=Path),
    help="New or empty folder for the run's files.  [default: runs/NAME-TIME]",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the run in the folder --run.")
@click.option("--service", metavar="HOST:PORT", help="Register the run with a service.")
@click.option(
    "--threads", type=click.IntRange(1), help="BLAS threads per process.  [default: 1]"
)
@resume_options
@profile_option
@click.option("--quiet", "-q", is_flag=True, help="Print only the verdict.")
@output_option
def train(workers: int | None, threads: int | None, resumed: Path | None, **asked: Any) -> None:
    """Train the job in SPEC, a .toml or .json file.

    \b
    Examples:
      dbp train job.toml                       in one process
      dbp train job.toml -n 4                  in four, started by mpirun
      mpirun -n 4 dbp train job.toml           the same, on a cluster
      dbp train job.toml -n 2 --profile        show where the time is spent
      dbp train --resume RUN                   continue the run in the folder RUN
      dbp train --resume RUN --epochs 60       make an ended run longer

    Ctrl-C, SIGTERM, SIGHUP or SIGUSR1 stop after the current step and write a checkpoint (exit
    code 75); a second Ctrl-C ends the run at once. --resume continues from there, or after a
    crash from the last checkpoint, to the same parameters. For a chain of short jobs repeat
    this command until the run has taken all of its steps:

    \b
      dbp train --resume RUN --max-seconds 3000

    A bare mpirun kills its processes 0.5 s after Ctrl-C. To stop them safely:

    \b
      kill -USR1 PID_OF_MPIRUN
    """
    make_output_lossy()
    check_profile(asked["profile"], asked["spec"], resumed)
    asked |= folder_to_resume(resumed, asked)
    place = detect(os.environ)
    if place is None and workers is not None and workers > 1:
        from dbp.cli.mpirun.parent import train_on_ranks
        from dbp.cli.train.preparation import check_lanes

        check_lanes(asked["spec"], workers)
        sys.exit(train_on_ranks(workers, sys.argv[1:], quiet=asked["quiet"]))
    place = place or ALONE
    if workers is not None and workers != place.size:
        started = count_text(place.size, "process", "processes")
        raise click.UsageError(
            f"--workers {workers}, but {place.launcher} started {started}; remove --workers"
        )
    set_thread_counts(os.environ, threads)
    own = {field.name for field in dataclasses.fields(Request)}
    given = {name: value for name, value in asked.items() if name in own}
    sys.exit(_run(Request(**given, longer=longer_of(asked)), place, threads or 1))


def _run(request: Request, place: Launch, threads: int) -> int:
    """Run one rank, from the spec to the exit code."""
    from dbp.data_access import hiding_contents
    from dbp.train.stop_signals import StopSignals
    from dbp.worker import die_with_parent

    if place is not ALONE:
        die_with_parent()
    signals = StopSignals(early_warning=kills_ranks(place, os.environ))
    # Others read the errors that a service shows; those of any rank are rank 0's, too.
    reporting = hiding_contents() if request.service else contextlib.nullcontext()
    try:
        with report_once(place, alone=place is ALONE):
            inspected = _inspect(request, place)
            if place.rank != 0:
                with reporting:
                    return _other_rank(request, inspected, place, signals)
        warning = oversubscription(place.local_size, threads)
        if warning and not request.quiet:
            echo(f"note: {warning}", err=True)
        with reporting:
            return _rank_0(request, inspected, place, signals)
    finally:
        signals.ignore()


def _inspect(request: Request, place: Launch) -> Inspected:
    from dbp.cli.train.preparation import inspect_and_note

    resumed = request.folder if request.resume else None
    document = read_document(request.spec, resumed, request.longer, new_data=request.new_data)
    quiet = request.quiet or place.rank != 0
    return inspect_and_note(document, request.spec, place.size, quiet=quiet)


def _other_rank(
    request: Request, inspected: Inspected, place: Launch, signals: StopSignals
) -> int:
    from dbp.train.report.fan_out import FanOut, OutcomeRecorder
    from dbp.worker import run_rank

    earlier = request.resume or request.overwrite
    sink = (
        FanOut() if request.folder is None else OutcomeRecorder(request.folder, earlier=earlier)
    )
    outcome = run_rank(
        place.size, lambda: inspected, sink, signals, rank=place.rank, resume=request.resume,
        profile=make_profile(request.profile),
    )  # fmt: skip
    # Bad input is rank 0's to report: the launcher's exit code is then rank 0's.
    code = exit_code_of(outcome.status, outcome.reason)
    return DONE if code == BAD_INPUT else code


def _rank_0(request: Request, inspected: Inspected, place: Launch, signals: StopSignals) -> int:
    from dbp.storage.checkpoints import CHECKPOINTS
    from dbp.train.report.fan_out import AnyOf, FanOut, StartRecorder
    from dbp.worker import run_rank

    resolved = inspected.resolved
    try:
        folder = prepare_folder(
            request.folder,
            resolved,
            resume=request.resume,
            overwrite=request.overwrite,
            extended=request.longer.changes_spec,
        )
        reporter = join_service(
            request.service, resolved, place.size, folder, quiet=request.quiet
        )
    except DbpError as refusal:
        if place.size > 1:
            refuse_on_all_ranks(place.size, refusal)
        raise
    resume = request.resume and resume_terms(
        folder.path, request.longer, new_data=request.new_data
    )
    start = StartRecorder()
    sinks: list[Sink] = [*_screen(request, place), folder, start]
    controls: list[Control] = [signals]
    if reporter is not None:
        sinks.append(reporter)
        controls.append(reporter)
    profile = make_profile(request.profile)
    outcome = run_rank(
        place.size,
        lambda: inspected,
        FanOut(*sinks),
        AnyOf(*controls),
        rank=0,
        reporter=reporter,
        checkpoints=folder.path / CHECKPOINTS,
        resume=resume,
        max_seconds=request.longer.max_seconds,
        detach=kills_ranks(place, os.environ),
        profile=profile,
    )
    _summarize(request, resolved, outcome, folder.path, start.plan)
    if profile is not None:
        write_profile(profile, request.profile or "", folder.path, quiet=request.quiet)
    return exit_code_of(outcome.status, outcome.reason)


def _screen(request: Request, place: Launch) -> list[Sink]:
    """Return the sink that shows the run: a bar on a terminal, else lines."""
    if request.quiet:
        return []
    stream = sys.stdout if request.output == "text" else sys.stderr
    on_terminal = stream.isatty() if place is ALONE else shows_terminal(stream, os.environ)
    if on_terminal and can_draw(os.environ):
        from dbp.cli.screen.progress_bar import ProgressBar

        return [ProgressBar(rank_console(stream, os.environ))]
    from dbp.train.report.lines import Lines

    return [Lines(stream)]


def _summarize(
    request: Request,
    resolved: ResolvedSpec,
    outcome: RunOutcome,
    folder: Path,
    plan: Started | None,
) -> None:
    """Print the verdict, the test figures, the files, and how to use them."""
    from dbp.train.report.lines import outcome_text
    from dbp.train.report.run_contents import stored_step
    from dbp.train.report.run_files import PARAMETERS

    if request.output == "json":
        products = None if plan is None else plan.lane_products
        found = None if products is None else dataclasses.asdict(products)
        ended = dataclasses.asdict(outcome)
        echo_json({**ended, "run": str(folder), "lane_products": found})
        return
    if outcome.status == "failed":
        echo(f"error: {outcome.message}", err=True)
    else:
        echo(outcome_text(outcome, resolved.document))
    if command := next_command(outcome, folder):
        echo(command)
    parameters = folder / PARAMETERS
    if not outcome.step or not parameters.exists():  # else they are an earlier part's
        return
    if outcome.status == "failed":
        with contextlib.suppress(InvalidInput, OSError):  # damaged: of an earlier part
            echo(f"parameters after step {stored_step(parameters):,}: {parameters}")
        return
    echo(f"parameters: {parameters}")
    echo(f"use them:   dbp predict {shlex.quote(str(folder))} INPUTS")
