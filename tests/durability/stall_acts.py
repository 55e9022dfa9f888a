"""A service ends a stalled attempt: the reason is durable before the processes are killed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import final

from dbp.jobs.stall_report import StallReport
from dbp.launch.launcher import Exit
from tests.durability.act import Acknowledger, Act, take


@final
class ReportStall(Act):
    """A report replaces that of an earlier stall, from which the run recovered."""

    name = "report a stall"

    def run(self, folder: Path, acknowledge: Acknowledger, done: int = 0) -> None:
        def report(step: int) -> str:
            StallReport("rank 1 is stopped\n" + "x" * 3_000, 1, "node", step).write(folder)
            return f"rank 1 in step {step}"

        take([partial(report, step) for step in (3, 5, 7)], acknowledge, done)

    def recover(self, folder: Path) -> str:
        found = StallReport.read(folder, Exit(lost=True))
        return "nothing" if found is None else f"rank {found.rank} in step {found.step}"
