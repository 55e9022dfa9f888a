"""Inspect a spec before training and show its notes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # these load numpy, whose threads must be set first
    from dbp.train.check.inspection import Inspected


def check_lanes(file: Path, workers: int) -> None:
    """Raise InvalidInput for a spec that cannot be read or has too few lanes.

    Call it before mpirun starts. A missing spec of a run folder is left to the ranks, which
    say what the folder holds instead.
    """
    from dbp.errors import InvalidSpec
    from dbp.job.check import check
    from dbp.job.load import located, parse_file
    from dbp.job.rules import lanes_violations

    if not file.exists():
        return
    document = parse_file(file)
    with located(file):
        if violations := lanes_violations(check(document).train, workers):
            raise InvalidSpec(violations)


def inspect_and_note(document: object, file: Path, workers: int, *, quiet: bool) -> Inspected:
    """Inspect the document of ``file``, print the notes. Raises InvalidInput."""
    from dbp.job.load import located
    from dbp.job.resolve import resolve
    from dbp.train.check.inspection import inspect

    with located(file):
        inspected = inspect(resolve(document), workers)
    for note in () if quiet else inspected.notes():
        click.echo(f"note: {note}", err=True)
    return inspected
