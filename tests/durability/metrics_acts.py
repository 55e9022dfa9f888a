"""The metrics history alone: reports of a run are added, and acknowledged after their batch."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Final, final

from dbp.job.state import ProgressReport
from dbp.job.step_window import StepWindow
from dbp.jobs.config import SystemClock
from dbp.jobs.metric_query import PointRange
from dbp.jobs.metrics_history import MetricsHistory
from dbp.storage.metrics_file import MetricsFile
from tests.durability.act import Acknowledger, Act

REPORTS: Final = 4


def _report(number: int) -> ProgressReport:
    loss = 1.0 / number
    window = StepWindow(2 * number - 1, 2, loss, loss, loss)
    return ProgressReport(2 * number, 9, 1, loss, {}, 1.0, None, 1.0, window=window)


@final
class RecordMetrics(Act):
    """Some reports of one run, each in a batch of its own."""

    name = "record metrics"

    def run(self, folder: Path, acknowledge: Acknowledger, done: int = 0) -> None:
        async def record() -> None:
            history = MetricsHistory(MetricsFile(folder / "metrics.sqlite"), SystemClock())
            for number in range(done + 1, REPORTS + 1):
                history.add("a", 1, number, _report(number))
                history.when_stored("run", partial(acknowledge, f"report {number}"))
                await history.flush()
            await history.close()

        asyncio.run(record())

    def recover(self, folder: Path) -> str:
        async def read() -> str:
            history = MetricsHistory(MetricsFile(folder / "metrics.sqlite"), SystemClock())
            steps = {
                series.name: list((await history.points(series, PointRange())).step)
                for series in await history.series(["a"])
            }
            await history.close()
            count = len(steps.get("loss", []))
            expected = [2 * number for number in range(1, count + 1)]
            assert steps == dict.fromkeys(steps, expected), "half a report, or a gap"
            return " ".join(f"report {number}" for number in range(1, count + 1))

        return asyncio.run(read())
