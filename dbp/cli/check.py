"""``dbp check``: test data, gradients and exactness of a job before a long run."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self, final

import click

from dbp.cli.screen.output import echo, echo_json, output_option
from dbp.json_value import JsonObject
from dbp.launching import set_thread_counts
from dbp.quantities import count_text

if TYPE_CHECKING:  # these load numpy, whose threads must be set first
    from rich.console import Console

    from dbp.train.check.job_check import Finding

_SIGNS = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--steps", type=click.IntRange(1, 10_000), default=5, show_default=True,
    help="Training steps on 1, 2 and 3 ranks, for the test of the lanes.",
)  # fmt: skip
@output_option
def check(file: Path, steps: int, output: str) -> None:
    """Test a job's data, gradients and exactness before a long run.

    \b
    data      the first mini-batches are finite, classes fit the model, no input is
              constant
    gradient  of your model, in float64: the sum over three ranks by the real exchange,
              compared with central differences of the loss
    lanes     some steps on 1, 2 and 3 ranks with exact numerics give the same bits

    Ranks are threads here: MPI is not needed, and nothing is written. In a large tensor
    only some elements are compared. `dbp spec check` validates without reading samples.

    \b
    Example:
      dbp check job.toml

    Exit code 1 if a test failed; warnings do not count.
    """
    set_thread_counts(os.environ)
    from dbp.job.spec.load import located, resolve_file
    from dbp.train.build import build
    from dbp.train.check.inspection import inspect
    from dbp.train.check.job_check import check_job

    resolved = resolve_file(file)
    with located(file):
        setup = build(inspect(resolved))
    findings = []
    with Screen() as screen:
        for finding in check_job(setup, steps=steps, on_progress=screen.on_progress):
            findings.append(finding)
            if output == "text":
                screen.say(f"{_SIGNS[finding.verdict]} {finding.subject:<9} {finding.text}")
    failed = sum(finding.verdict == "failed" for finding in findings)
    if output == "json":
        echo_json(_content(file, findings))
    else:
        warnings = sum(finding.verdict == "warning" for finding in findings)
        echo(
            f"{file}: {len(findings) - failed - warnings} passed, "
            f"{count_text(warnings, 'warning')}, {failed} failed"
        )
    sys.exit(1 if failed else 0)


def _content(file: Path, findings: list[Finding]) -> JsonObject:
    """Return the findings as JSON values."""
    return {
        "spec": str(file),
        "passed": all(finding.verdict != "failed" for finding in findings),
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }


@final
class Screen:
    """Findings on stdout, and on a terminal the current activity below them, on stderr."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console

        console = console or Console(stderr=True)
        self._status = console.status("starting") if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Show the current activity and its progress."""
        if self._status is not None:
            self._status.update(f"{what}, {done:,} of {total:,}")

    def say(self, line: str) -> None:
        """Print a line above the activity."""
        self.__exit__()
        echo(line)
        self.__enter__()
