"""A run as a progress bar on a terminal. It draws when told to and has no thread of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from dbp.train.lines import SHOWN, left_out_text
from dbp.train.sink import Outcome, Snapshot, Started
from dbp.train.sink import Progress as Report


@final
class ProgressBar:
    """The sink of `dbp train` on a terminal."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.completed:,}/{task.total:,.0f}"),
            TextColumn("{task.fields[figures]}"),
            TextColumn("{task.fields[rate]:,.0f}/s"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
        )
        self._task = TaskID(0)

    def started(self, started: Started) -> None:
        """Draw the empty bar."""
        self._bar.start()
        self._task = self._bar.add_task(
            "", total=started.total_steps, epoch=1, figures="", rate=0.0
        )

    def progress(self, progress: Report) -> None:
        """Draw where the run is."""
        self._bar.update(
            self._task,
            completed=progress.step,
            epoch=progress.epoch,
            figures=_figures(progress.metrics, progress.skipped),
            rate=progress.samples_per_second,
            refresh=True,
        )

    def rolled_back(self, step: int) -> None:
        """Move the bar back."""
        self._bar.update(self._task, completed=step, refresh=True)

    def snapshot(self, snapshot: Snapshot) -> bool:
        """Nothing to draw."""
        return True

    def finished(self, outcome: Outcome) -> None:
        """Leave the last state on the screen."""
        if self._bar.live.is_started:
            self._bar.stop()


def _figures(metrics: Mapping[str, float], skipped: int) -> str:
    """Return the two figures that fit beside a bar: the first and the last of ``SHOWN``.

    Where mini-batches were left out, their number replaces the second figure.
    """
    names = [name for name in SHOWN if name in metrics]
    parts = [f"{name} {metrics[name]:.4g}" for name in dict.fromkeys([*names[:1], *names[-1:]])]
    if skipped:
        parts[1:] = [left_out_text(skipped)]
    return ", ".join(parts)
