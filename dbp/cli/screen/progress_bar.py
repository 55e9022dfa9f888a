"""Progress bar of `dbp train` on a terminal; draws only when a report arrives, no thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, final

from rich.console import Console
from rich.live import Live

from dbp.cli.screen.status_line import Status, StatusLine
from dbp.job.state import ProgressReport, RunOutcome
from dbp.train.report.lines import start_texts
from dbp.train.report.sink import ParameterSnapshot, Started

LEAST_SECONDS: Final = 0.1  # between drawings


@final
class ProgressBar:
    """The sink of `dbp train` on a terminal."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self._clock = clock
        self._drawn = -math.inf
        self._status = Status()

    def started(self, started: Started) -> None:
        """Write the plan of the run and draw the empty bar."""
        for text in start_texts(started):
            self._live.console.print(text, soft_wrap=True, highlight=False, markup=False)
        self._status = Status(
            step=started.steps_done,
            total_steps=started.total_steps,
            epoch=min(
                started.steps_done // started.steps_per_epoch + 1,
                math.ceil(started.total_epochs),
            ),
            epochs=math.ceil(started.total_epochs),
        )
        self._live.start()
        self._draw()

    def progress(self, progress: ProgressReport) -> None:
        """Draw the newest state, at most ten times a second."""
        self._status = replace(
            self._status,
            step=progress.step,
            epoch=progress.epoch,
            metrics=progress.metrics,
            skipped=progress.skipped_in_epoch,
            samples_per_second=progress.samples_per_second,
            seconds_to_go=progress.eta_seconds,
        )
        self._live.update(StatusLine(self._status))
        if self._clock() - self._drawn >= LEAST_SECONDS:
            self._draw()

    def rolled_back(self, step: int) -> None:
        """Move the bar back."""
        self._status = replace(self._status, step=step, seconds_to_go=None)
        self._draw()

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        """Accept the snapshot; it is not shown."""
        return True

    def finished(self, outcome: RunOutcome) -> None:
        """Leave the last state on the screen."""
        if self._live.is_started:
            self._live.update(StatusLine(replace(self._status, ended=True)))
            self._live.stop()

    def _draw(self) -> None:
        self._drawn = self._clock()
        self._live.update(StatusLine(self._status), refresh=True)
