"""Prepare a run: check its spec, report errors once, lock its folder, register it.

Rank 0 does the last two. After a refusal it still initializes MPI before it exits: Open MPI's
launcher can crash when one rank exits while another is in MPI_Init.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dbp.cli.screen.output import echo
from dbp.errors import DbpError, InvalidInput
from dbp.exit_codes import BAD_INPUT, FAILED
from dbp.launching import Launch

if TYPE_CHECKING:
    from dbp.job.spec.resolve import ResolvedSpec
    from dbp.link.reporter import Reporter
    from dbp.train.check.inspection import Inspected
    from dbp.train.report.run_folder import RunFolder

PARENT: Final = Path("runs")
OTHER_RANKS_WAIT_SECONDS: Final = 2.0


@contextlib.contextmanager
def report_once(place: Launch, *, alone: bool) -> Iterator[None]:
    """Print an error on rank 0; other ranks wait, so that the launcher ends them first.

    No rank has communicated yet. If rank 0 does not have the same error (another host lacks a
    file), the rank prints it with its number after ``OTHER_RANKS_WAIT_SECONDS``. Unexpected
    errors are printed with their traceback. ``alone``: no launcher has started this process.
    """
    try:
        yield
    except DbpError as error:
        if place.rank == 0:
            raise
        time.sleep(OTHER_RANKS_WAIT_SECONDS)
        echo(f"error: on rank {place.rank}: {error}", err=True)
        code = BAD_INPUT if isinstance(error, InvalidInput) else FAILED
        raise SystemExit(code) from error
    except Exception as error:
        if alone:
            raise
        if place.rank != 0:
            time.sleep(OTHER_RANKS_WAIT_SECONDS)
        text = "".join(traceback.format_exception(error))
        echo(f"rank {place.rank} of {place.size} failed:\n{text}", err=True, nl=False)
        raise SystemExit(FAILED) from error


def check_lanes(file: Path, workers: int) -> None:
    """Raise InvalidInput for a spec that cannot be read or has too few lanes.

    Call it before mpirun starts. A missing spec of a run folder is left to the ranks, which
    say what the folder holds instead.
    """
    from dbp.errors import InvalidSpec
    from dbp.job.spec.check import check
    from dbp.job.spec.load import located, parse_file
    from dbp.job.spec.rules import lanes_violations

    if not file.exists():
        return
    document = parse_file(file)
    with located(file):
        if violations := lanes_violations(check(document).train, workers):
            raise InvalidSpec(violations)


def inspect_and_note(document: object, file: Path, workers: int, *, quiet: bool) -> Inspected:
    """Inspect the document of ``file``, print the notes. Raises InvalidInput."""
    from dbp.job.spec.load import located
    from dbp.job.spec.resolve import resolve
    from dbp.train.check.inspection import inspect

    with located(file):
        inspected = inspect(resolve(document), workers)
    for note in () if quiet else inspected.notes():
        echo(f"note: {note}", err=True)
    return inspected


def prepare_folder(
    path: Path | None,
    resolved: ResolvedSpec,
    *,
    resume: bool,
    overwrite: bool,
    extended: bool = False,
) -> RunFolder:
    """Lock the run's folder; make one if ``path`` is None. Raises Conflict, InvalidInput.

    ``extended``: the resumed run gets another length, which is written to its spec.
    """
    from dbp.train.report.run_folder import RunFolder

    if path is None:
        now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        return RunFolder.create(PARENT, f"{resolved.spec.name}-{now}", resolved.document)
    if resume:
        return RunFolder.resume(path, resolved.document if extended else None)
    return RunFolder.prepare(path, resolved.document, overwrite=overwrite)


def join_service(
    address: str | None, resolved: ResolvedSpec, workers: int, folder: RunFolder, *, quiet: bool
) -> Reporter | None:
    """Register with the service, if any; its link must start before MPI does.

    If that fails, the folder is discarded.
    """
    if address is None:
        return None
    from dbp.link.reporter import Reporter

    try:
        reporter = Reporter.join(address, resolved.document, workers)
    except DbpError:
        folder.discard()
        raise
    if not quiet:
        echo(f"registered as job {reporter.job} with {address}", err=True)
    return reporter


def refuse_on_all_ranks(workers: int, refusal: DbpError) -> None:
    """Initialize MPI, then end all ranks with the error of rank 0. Collective."""
    from dbp.train.report.fan_out import AnyOf, FanOut
    from dbp.worker import run_rank

    def refuse() -> Inspected:
        raise InvalidInput(str(refusal))

    run_rank(workers, refuse, FanOut(), AnyOf(), rank=0)
