"""A job of a service, followed to its end: a bar on a terminal, lines or JSON elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import click

from dbp.cli.output import echo_json, figures_text, job_content, progress_content
from dbp.job.ending_text import job_ending_lines
from dbp.job.state import Job, ProgressReport
from dbp.quantities import duration_text, time_to_go_text

if TYPE_CHECKING:
    from dbp.client.job import JobHandle
    from dbp.client.streams import JobUpdate

LINE_SECONDS: Final = 1.0


class View(Protocol):
    """Shows updates of one job."""

    def show(self, update: JobUpdate) -> None:
        """Show what is new."""

    def close(self) -> None:
        """Nothing more will come."""


def follow(job: JobHandle, output: str) -> Job:
    """Show the job until it has ended; returns it."""
    view: View
    if output == "json":
        view = JsonView()
    elif sys.stdout.isatty():
        view = BarView()
    else:
        view = LineView()
    try:
        for update in job.watch():
            view.show(update)
    finally:
        view.close()
    ended = job.get()
    if output == "text":
        click.echo(ended_text(ended))
    return ended


def progress_text(progress: ProgressReport) -> str:
    """One line: epoch, step, figures, rate, time to go."""
    parts = [
        f"epoch {progress.epoch}",
        f"step {progress.step:,}/{progress.total_steps:,}",
        figures_text(progress.metrics) or f"loss {progress.loss:.4g}",
        f"{progress.samples_per_second:,.0f} samples/s",
    ]
    if progress.skipped:
        parts.insert(3, f"mini-batches left out: {progress.skipped:,}")
    if progress.eta_seconds is not None and progress.step < progress.total_steps:
        parts.append(time_to_go_text(progress.eta_seconds))
    return ", ".join(parts)


def ended_text(job: Job) -> str:
    """Return the state in which a job ended, after which time, and why."""
    seconds = (job.end_time or 0) - (job.start_time or job.end_time or 0)
    lines = [f"{job.id} {job.state} after {duration_text(seconds)}", *job_ending_lines(job)]
    return "\n  ".join(lines)


class LineView:
    """Plain lines: each change of state, an epoch's end, at most one a second."""

    def __init__(self) -> None:
        self._told = 0.0

    def show(self, update: JobUpdate) -> None:
        """Print what is new."""
        if update.kind == "progress" and update.progress is not None:
            now = time.monotonic()
            if now - self._told >= LINE_SECONDS:
                self._told = now
                click.echo(progress_text(update.progress))
        elif update.job is not None and update.kind != "parameters_published":
            waits = f" ({update.job.waiting_reason})" if update.job.waiting_reason else ""
            click.echo(f"{update.job.id} {update.job.state}{waits}")

    def close(self) -> None:
        """Nothing is open."""


class JsonView:
    """One JSON object a line."""

    def show(self, update: JobUpdate) -> None:
        """Print everything."""
        content: dict[str, Any] = {"job": update.job_id, "kind": update.kind}
        if update.job is not None:
            content["state"] = job_content(update.job)
        if update.progress is not None:
            content["progress"] = progress_content(update.progress)
        echo_json(content)

    def close(self) -> None:
        """Nothing is open."""


class BarView:
    """A live bar: epoch, step, figures, parameter version, rate, time to go."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.fields[state]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
        )
        self._task = self._bar.add_task("", total=None, state="...", text="")
        self._version = ""
        self._bar.start()

    def show(self, update: JobUpdate) -> None:
        """Redraw."""
        if update.job is not None:
            text = update.job.waiting_reason
            self._bar.update(self._task, state=update.job.state.value, text=text)
            if update.job.latest_parameters is not None:
                self._version = f", version {update.job.latest_parameters.version}"
        if update.progress is not None:
            self._bar.update(
                self._task,
                total=update.progress.total_steps,
                completed=update.progress.step,
                text=progress_text(update.progress) + self._version,
            )

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._bar.stop()
