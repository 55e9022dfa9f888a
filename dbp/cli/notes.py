"""Validate a spec before training and show its notes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # these load numpy, whose threads must be set first
    from dbp.job.spec import JobSpec
    from dbp.job.validate import ResolvedSpec


def check_lanes(file: Path, workers: int) -> None:
    """Raise InvalidInput for a spec that cannot be read or has too few lanes.

    Call it before mpirun starts. A missing spec of a run folder is left to the ranks, which
    say what the folder holds instead.
    """
    from dbp.errors import InvalidSpec
    from dbp.job.load import load_file, located
    from dbp.job.worker_limit import lanes_violations

    if not file.exists():
        return
    with located(file):
        if violations := lanes_violations(load_file(file).train, workers):
            raise InvalidSpec(violations)


def check_and_note(spec: JobSpec, file: Path, workers: int, *, quiet: bool) -> ResolvedSpec:
    """Return the resolved spec of ``file`` after printing its notes. InvalidInput."""
    from dbp.job.load import located
    from dbp.train.check.inspection import examine
    from dbp.train.check.notes import notes

    with located(file):
        examined = examine(spec, workers)
    for note in () if quiet else notes(examined):
        click.echo(f"note: {note}", err=True)
    return examined.resolved
