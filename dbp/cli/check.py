"""``dbp check``: prove data, gradients and lanes of a job before a long run."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dbp.cli.output import echo_json, output_option
from dbp.launching import set_thread_counts

if TYPE_CHECKING:  # these load numpy, whose threads must be set first
    from dbp.train.check import Finding, Told

_SIGNS = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--steps", type=click.IntRange(1, 10_000), default=5, show_default=True,
    help="Steps of training on 1, 2 and 3 ranks.",
)  # fmt: skip
@output_option
def check(file: Path, steps: int, output: str) -> None:
    """Prove what can be proved of the job in FILE before a long run.

    \b
    data      the first mini-batches are finite; classes fit the model; constant inputs
    gradient  of your own model, in float64: the sum over three ranks with the real
              exchange, against central differences of the loss
    lanes     some steps on 1, 2 and 3 ranks with exact numerics: the same bits

    Ranks are threads here: no MPI is needed, and nothing is written. Of large tensors some
    elements are compared. dbp spec check validates without reading samples.

    \b
    Example:
      dbp check job.toml

    Exit code 1 where anything failed; warnings do not count.
    """
    set_thread_counts(os.environ)
    from dbp.job.load import load_file, located
    from dbp.train.build import build
    from dbp.train.build import check as check_spec
    from dbp.train.check import check_job

    loaded = load_file(file)
    with located(file):
        setup = build(check_spec(loaded))
    findings = []
    with _progress() as told:
        for finding in check_job(setup, steps=steps, told=told):
            findings.append(finding)
            if output == "text":
                click.echo(f"{_SIGNS[finding.verdict]} {finding.subject:<9} {finding.text}")
    failed = sum(finding.verdict == "failed" for finding in findings)
    if output == "json":
        echo_json(_content(file, findings))
    else:
        warnings = sum(finding.verdict == "warning" for finding in findings)
        click.echo(
            f"{file}: {len(findings) - failed - warnings} proved, "
            f"{warnings} {'warning' if warnings == 1 else 'warnings'}, {failed} failed"
        )
    sys.exit(1 if failed else 0)


def _content(file: Path, findings: list[Finding]) -> dict[str, object]:
    """The findings as JSON values."""
    return {
        "spec": str(file),
        "passed": all(finding.verdict != "failed" for finding in findings),
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }


@contextlib.contextmanager
def _progress() -> Iterator[Told]:
    """A line on a terminal's stderr that says what is being done; nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what, done, total: None
        return
    with console.status("starting") as status:
        yield lambda what, done, total: status.update(f"{what}, {done:,} of {total:,}")
