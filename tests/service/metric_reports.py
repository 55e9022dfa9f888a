"""Reports of a run with the losses of its steps, made by hand."""

from __future__ import annotations

import asyncio

from dbp.job.step_window import StepWindow
from dbp.rpc.job_convert import window_to_proto
from dbp.rpc.scalar_convert import time_to_proto
from dbp.v1 import worker_service_pb2
from tests.deadline import DEADLINE
from tests.service.setups import Run, Service


class Reporter:
    """Reports the losses of steps, four steps a report."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sequence = 1  # the run has sent one report

    def send(
        self, *lasts: int, epoch_end: bool = False, rollbacks: int = 0, loss: float = 1.0
    ) -> None:
        for last in lasts:
            self._sequence += 1
            report = worker_service_pb2.AttachRequest(sequence=self._sequence)
            report.progress.step, report.progress.total_steps = last, 100
            report.progress.epoch, report.progress.loss = 1, loss
            report.progress.observe_time.CopyFrom(time_to_proto(1_000.0 + last))
            report.progress.metrics["learning_rate"] = 0.5
            window = StepWindow(last - 3, 4, loss, loss - 1, loss + 1, rollbacks)
            report.progress.window.CopyFrom(window_to_proto(window))
            if epoch_end:
                report.progress.epoch_end = True
                report.progress.metrics["validation_loss"] = 0.25
            self._run.send(report)


async def received(service: Service, run: Run, step: int) -> None:
    """The service has received the report on a step, which may wait in its memory."""
    async with asyncio.timeout(DEADLINE):
        while (await service.get(run.id)).progress.step < step:
            await asyncio.sleep(0.005)
