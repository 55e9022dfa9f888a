"""Watches the processes of running attempts; ends an attempt that makes no progress.

The condition Stalled is set as soon as a process is seen to be stopped, or when the limit has
passed. After the limit the stacks of the ranks are collected, the report is written to the
attempt's folder, and all processes are killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, final

from dbp.errors import DbpError
from dbp.job.failure import ConditionKind
from dbp.job.retry_terms import stall_seconds
from dbp.job.state import Job
from dbp.jobs.config import Clock
from dbp.jobs.job_table import JobTable
from dbp.jobs.stall import Stall, StallDetector
from dbp.jobs.stall_report import StallReport
from dbp.launch.launcher import Exit, ProcessHealth, Role, Running
from dbp.quantities import duration_text
from dbp.storage.state_folder import StateFolder
from dbp.storage.threads import in_thread

POLL_SECONDS: Final = 0.5
# After a silence of this length watchers are sent the job again, then after twice the length...
SILENT_SECONDS: Final = 10.0
STACK_LINES: Final = 12  # of a rank, in the message of a failure

log = logging.getLogger("dbp.jobs")


@final
class StallWatch:
    """Polls the health of each running attempt, and ends the attempts that have stalled."""

    def __init__(
        self,
        folder: StateFolder,
        table: JobTable,
        clock: Clock,
    ) -> None:
        self._folder = folder
        self._table = table
        self._clock = clock
        self._reports: dict[str, StallReport] = {}

    async def report(self, job: Job, ended: Exit | None) -> StallReport | None:
        """Return why a service ended the job's newest attempt; None if it did not stall."""
        known = self._reports.get(job.id)
        if known is not None or ended is None:
            return known
        folder = self._folder.attempt_folder(job.id, job.attempt)
        return await in_thread(partial(StallReport.read, folder, ended))

    def forget(self, job_id: str) -> None:
        """Drop the report of an attempt whose end is stored."""
        self._reports.pop(job_id, None)

    @contextlib.asynccontextmanager
    async def watching(self, job_id: str, running: Running) -> AsyncIterator[None]:
        """Watch the attempt while the context lasts."""
        task = asyncio.create_task(self._watch(job_id, running))
        task.add_done_callback(_log_failure)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self, job_id: str, running: Running) -> None:
        job = self._table.live(job_id)
        if job is None:
            return
        attempt = _Attempt(
            running,
            self._folder.attempt_folder(job_id, job.attempt),
            StallDetector(stall_seconds(job.spec)),
            _Silence(self._clock.monotonic()),
        )
        while True:
            try:
                if await self._poll(job_id, attempt):
                    return
            except Exception as error:  # noqa: BLE001, RUF100 (one bad poll must not end all)
                unforeseen = not isinstance(error, DbpError | OSError)
                log.warning("job %s: its health: %s", job_id, error, exc_info=unforeseen)
            await self._clock.sleep(POLL_SECONDS)

    async def _poll(self, job_id: str, attempt: _Attempt) -> bool:
        """Observe the attempt once; return whether it was ended."""
        processes = await attempt.running.health()
        now = self._clock.monotonic()
        if attempt.silence.ends(now, processes):
            self._table.note_report(job_id)
        if attempt.silence.changed:
            self._table.note_silence(job_id)
        stall = attempt.detector.observe(now, processes)
        self._table.note_condition(
            job_id, ConditionKind.STALLED, None if stall is None else stall.message
        )
        if stall is None or not stall.due:
            return False
        ranks = [process.rank for process in processes if process.rank is not None]
        found = await attempt.running.explain(ranks)
        processes = await attempt.running.health()
        again = attempt.detector.observe(self._clock.monotonic(), processes)
        if again is None or not again.due:
            return False  # it continued meanwhile
        self._reports[job_id] = report = _report(again, processes, found)
        log.warning("job %s: %s", job_id, report.message, extra={"rank": report.rank})
        try:
            await in_thread(partial(report.write, attempt.folder))
        except OSError as error:  # a full disk must not keep the processes alive
            log.warning("job %s: the report on its stall: %s", job_id, error)
        await attempt.running.kill()
        return True


@dataclass(frozen=True)
class _Attempt:
    """An attempt that is watched."""

    running: Running
    folder: Path
    detector: StallDetector
    silence: _Silence


@final
class _Silence:
    """Notices when ranks report, and when they have not for a while."""

    def __init__(self, now: float) -> None:
        self._reports: int | None = None
        self._since = now
        self._next = SILENT_SECONDS
        self.changed = False  # whether watchers should see the job again

    def ends(self, now: float, processes: Sequence[ProcessHealth]) -> bool:
        """Return whether a rank has reported since the last call."""
        before = self._reports
        self._reports = sum(p.beat.count for p in processes if p.role is Role.RANK)
        if before is not None and self._reports > before:
            self.changed = self._next > SILENT_SECONDS
            self._since, self._next = now, SILENT_SECONDS
            return True
        self.changed = now - self._since >= self._next
        if self.changed:
            self._next *= 2
        return False


def _report(
    stall: Stall, processes: Sequence[ProcessHealth], found: Mapping[int, str]
) -> StallReport:
    """Return the report with the stack, or the state, of the rank that is to blame."""
    culprit = stall.culprit
    stack = "" if culprit.rank is None else found.get(culprit.rank, "")
    lines = [f"  {line.strip()}" for line in stack.splitlines() if line.strip()][:STACK_LINES]
    text = (
        f"{stall.message}: no progress for {duration_text(stall.seconds)}, so dbp ended the "
        "run; if such a pause is normal, raise retry.stall_seconds"
    )
    steps = (process.beat.step for process in processes if process.role is Role.RANK)
    step = culprit.beat.step or max(steps, default=0)
    return StallReport("\n".join([text, *lines]), culprit.rank, culprit.host, step)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("watching for stalls failed", exc_info=task.exception())
