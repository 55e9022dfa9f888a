"""One rank of dbp under mpirun, timed from step to step: ``SPEC WARMUP RESULT``."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import final

from dbp.job.spec.load import resolve_file
from dbp.launching import Launch, detect
from dbp.train.check.inspection import inspect
from dbp.train.report.fan_out import FanOut
from dbp.train.report.sink import Command
from dbp.worker import die_with_parent, run_rank


@final
class _Clock:
    """A control, asked once at the start of every step, that only looks at the time."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def poll(self) -> Command:
        self.times.append(time.perf_counter())
        return Command.NONE


def main(spec: str, warmup: str, result: str) -> None:
    die_with_parent()
    place = detect(os.environ) or Launch("none", 0, 1, 1)
    clock = _Clock()
    inspected = inspect(resolve_file(spec), place.size)
    outcome = run_rank(place.size, lambda: inspected, FanOut(), clock, rank=place.rank)
    if outcome.status != "succeeded":
        raise SystemExit(f"{outcome.status}: {outcome.message}")
    if place.rank == 0:
        times = clock.times[int(warmup) :]
        steps = [after - before for before, after in itertools.pairwise(times)]
        Path(result).write_text(json.dumps(steps))


if __name__ == "__main__":
    main(*sys.argv[1:])
