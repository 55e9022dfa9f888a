"""Run one rank of dbp, timed from step to step: ``python -m dbp.bench.dbp_rank ARGUMENTS``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import final

from dbp.bench.timed_result import TimedResult
from dbp.job.spec.load import resolve_file
from dbp.job.state import ProgressReport, RunOutcome
from dbp.launching import Launch, detect
from dbp.train.check.inspection import inspect
from dbp.train.report.sink import Command, ParameterSnapshot, Sink, Started
from dbp.worker import die_with_parent, run_rank


@final
class _Clock:
    """A control, polled once at the start of every step, that only reads the time."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def poll(self) -> Command:
        self.times.append(time.perf_counter())
        return Command.NONE


@final
class _LastLoss(Sink):
    """Keeps the loss of the newest report; the last step has one."""

    def __init__(self) -> None:
        self.loss: float | None = None

    def started(self, started: Started) -> None:
        pass

    def progress(self, progress: ProgressReport) -> None:
        self.loss = progress.loss

    def rolled_back(self, step: int) -> None:
        pass

    def snapshot(self, snapshot: ParameterSnapshot) -> bool:
        return True

    def finished(self, outcome: RunOutcome) -> None:
        pass


def main(spec: str, warmup: str, result: str) -> None:
    """Train the job in the file ``spec``; rank 0 writes ``result``."""
    die_with_parent()
    place = detect(os.environ) or Launch("none", 0, 1, 1)
    clock, sink = _Clock(), _LastLoss()
    inspected = inspect(resolve_file(Path(spec)), place.size)
    outcome = run_rank(place.size, lambda: inspected, sink, clock, rank=place.rank)
    if outcome.status != "succeeded":
        raise SystemExit(f"{outcome.status}: {outcome.message}")
    if place.rank == 0:
        TimedResult.of(clock.times, int(warmup), sink.loss).write(Path(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
