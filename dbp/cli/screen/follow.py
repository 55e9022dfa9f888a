"""Follow a job of a service to its end: a bar on a terminal, lines or JSON elsewhere."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from dbp.cli.screen.output import (
    can_draw,
    echo,
    echo_json,
    figures_text,
    job_content,
    label_content,
    progress_content,
)
from dbp.job.ending_text import job_ending_lines
from dbp.job.failure_text import attempt_text, condition_text
from dbp.job.state import Job, ProgressReport
from dbp.json_value import JsonValue
from dbp.printable import printable_output
from dbp.quantities import count_text, duration_text, time_to_go_text
from dbp.train.report.lines import rate_text

if TYPE_CHECKING:
    from dbp.cli.screen.status_line import Status
    from dbp.client.job import JobHandle
    from dbp.client.transport.streams import JobUpdate

LINE_SECONDS: Final = 1.0
SILENT_SECONDS: Final = 5.0  # from the last report of a run until its age is shown


def note_of(job: Job) -> str:
    """Return the conditions of a live job, its silence, or why it waits."""
    if job.conditions:
        return "; ".join(map(condition_text, job.conditions))
    silent = 0.0 if job.report_time is None else time.time() - job.report_time
    if silent >= SILENT_SECONDS:
        return f"no report for {duration_text(silent)}"
    return job.waiting_reason


def state_text(job: Job, *, failed: bool = False) -> str:
    """Return a job's state in one line; ``failed``: with the failure of its last attempt."""
    note = note_of(job)
    text = f"{job.id} {job.state}" + (f" ({note})" if note else "")
    if failed and job.previous_failure is not None:
        text += f"\n  {attempt_text(job.previous_failure)}"
    return text


class View(Protocol):
    """Interface of displays for one job."""

    def show(self, update: JobUpdate) -> None:
        """Show an update of the job."""

    def close(self) -> None:
        """End the display; no update follows."""


def follow(job: JobHandle, output: str) -> Job:
    """Show the job until it has ended; return the job."""
    view: View = JsonView() if output == "json" else text_view()
    try:
        for update in job.watch():
            view.show(update)
    finally:
        view.close()
    ended = job.get()
    if output == "text":
        echo(ended_text(ended))
    return ended


def text_view() -> BarView | LineView:
    """Return a bar on a terminal that can move its cursor, else lines."""
    return BarView() if sys.stdout.isatty() and can_draw(os.environ) else LineView()


def progress_text(progress: ProgressReport, *, ended: bool = False) -> str:
    """Return epoch, step, figures, rate and time to go in one line.

    Args:
        progress: The newest report of the run.
        ended: The run has ended, so that no rate and no time to go are shown.
    """
    skipped = progress.skipped
    parts = [
        f"epoch {progress.epoch:,}",
        f"step {progress.step:,}/{progress.total_steps:,}",
        figures_text(progress.metrics) or f"loss {progress.loss:.4g}",
        f"{count_text(skipped, 'mini-batch', 'mini-batches')} left out" if skipped else "",
        "" if ended else rate_text(progress.samples_per_second),
    ]
    to_go = progress.eta_seconds if progress.step < progress.total_steps else None
    if to_go is not None and not ended:
        parts.append(time_to_go_text(to_go))
    return ", ".join(filter(None, parts))


def ended_text(job: Job) -> str:
    """Return the state in which a job ended, after which time, and why."""
    seconds = (job.end_time or 0) - (job.start_time or job.end_time or 0)
    lines = [f"{job.id} {job.state} after {duration_text(seconds)}", *job_ending_lines(job)]
    return "\n  ".join(lines)


def gap_text(update: JobUpdate) -> str:
    """Return one line if changes before this update were not sent; else ""."""
    if not update.gap:
        return ""
    return f"{update.job_id}: some changes are not shown: the service no longer stores them"


def versions_text(update: JobUpdate) -> str:
    """Return a label's move, a version's pin or damaged checkpoints in a line; else ""."""
    if update.kind == "checkpoints_damaged" and update.job is not None:
        return f"{update.job_id}: {update.job.notes[-1]}"
    move = update.label
    if move is not None:
        left = f" from version {move.previous}" if move.previous else ""
        if not move.version:
            return f"{update.job_id}: label {move.label} removed{left}"
        return f"{update.job_id}: label {move.label} moved{left} to version {move.version}"
    if update.version:
        pinned = "unpinned" if update.kind == "version_unpinned" else "pinned"
        return f"{update.job_id}: version {update.version} {pinned}"
    return ""


class LineView:
    """Lines: each change of state, and progress at most once a second."""

    def __init__(self) -> None:
        self._shown_at = 0.0

    def show(self, update: JobUpdate) -> None:
        """Print a change of state, or progress if a second has passed."""
        if update.kind == "progress" and update.progress is not None:
            now = time.monotonic()
            if now - self._shown_at >= LINE_SECONDS:
                self._shown_at = now
                echo(progress_text(update.progress))
        elif text := versions_text(update):
            echo(text)
        elif update.kind == "deleted":
            echo(f"{update.job_id} deleted")
        elif update.job is not None and update.kind != "parameters_published":
            if gap := gap_text(update):
                echo(gap)
            echo(state_text(update.job, failed=update.kind == "requeued"))

    def close(self) -> None:
        """Do nothing: no display is open."""


class JsonView:
    """One JSON object per line."""

    def show(self, update: JobUpdate) -> None:
        """Print each update in full."""
        content: dict[str, JsonValue] = {"job": update.job_id, "kind": update.kind}
        if update.job is not None:
            content["state"] = job_content(update.job)
        if update.progress is not None:
            content["progress"] = progress_content(update.progress)
        if update.label is not None:
            content["label"] = label_content(update.label)
        if update.version:
            content["version"] = update.version
        if update.gap:
            content["gap"] = True
        echo_json(content)

    def close(self) -> None:
        """Do nothing: no display is open."""


class BarView:
    """A live bar: state, epoch, step, figures, parameter version, rate, time to go."""

    def __init__(self) -> None:
        from rich.live import Live

        from dbp.cli.screen.status_line import Status

        self._status = Status(state="...")
        self._live = Live(auto_refresh=False)
        self._live.start()

    def show(self, update: JobUpdate) -> None:
        """Draw the bar with the update."""
        from dbp.cli.screen.status_line import StatusLine

        if update.job is not None:
            self._status = with_job(self._status, update.job)
        if update.progress is not None:
            self._status = with_progress(self._status, update.progress)
        if text := gap_text(update) or versions_text(update):
            self.say(text)
        self._live.update(StatusLine(self._status), refresh=True)

    def say(self, text: str) -> None:
        """Print lines above the bar; click writes past rich, right after the bar."""
        self._live.console.print(
            printable_output(text), soft_wrap=True, markup=False, highlight=False
        )

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._live.stop()


def with_job(status: Status, job: Job) -> Status:
    """Return the status with the state of a job; an ended one has no time to go."""
    version = job.latest_parameters.version if job.latest_parameters else status.version
    return replace(
        status,
        state=job.state.value,
        note=note_of(job),
        version=version,
        ended=job.state.terminal,
    )


def with_progress(status: Status, progress: ProgressReport) -> Status:
    """Return the status with a newer report."""
    return replace(
        status,
        step=progress.step,
        total_steps=progress.total_steps,
        epoch=progress.epoch,
        metrics=progress.metrics or {"training_loss": progress.loss},
        skipped=progress.skipped,
        samples_per_second=progress.samples_per_second,
        seconds_to_go=progress.eta_seconds,
    )
