"""Collect the figures of each epoch, and the metadata of the final parameters, in memory."""

from __future__ import annotations

from typing import final

from dbp.job.state import ProgressReport, RunOutcome
from dbp.train.report.sink import ParameterSnapshot, Sink, Started


@final
class History(Sink):
    """A sink for a program that uses the run's result in the same process.

    Attributes:
        epochs: Step, epoch and metrics at the end of each epoch.
        metadata: Metadata of the final parameters; None until they are there.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.metadata: dict[str, str] | None = None

    def started(self, started: Started) -> None:
        pass

    def progress(self, progress: ProgressReport) -> None:
        if progress.epoch_end:
            self.epochs.append(
                {"step": progress.step, "epoch": progress.epoch, **progress.metrics}
            )

    def rolled_back(self, step: int) -> None:
        self.epochs = [epoch for epoch in self.epochs if epoch["step"] <= step]

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        if snapshot.final:
            self.metadata = dict(snapshot.manifest.metadata)
        return True

    def finished(self, outcome: RunOutcome) -> None:
        pass
