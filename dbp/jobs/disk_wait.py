"""Repeat the work of jobs while the disk is full, and show that as their condition."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar, final

from dbp.errors import DbpError, DiskFull
from dbp.job.failure import ConditionKind
from dbp.job.state import ProgressReport, State
from dbp.jobs.config import Clock
from dbp.jobs.job_table import JobTable
from dbp.storage.full_disk import is_full

RETRY_SECONDS: Final = 1.0
NOT_ASKED: Final = frozenset({State.STARTING, State.RUNNING})
NOT_CANCELLED: Final = NOT_ASKED | {State.PAUSING}

T = TypeVar("T")

log = logging.getLogger("dbp.jobs")


@final
class DiskWait:
    """Waits for space on the service's disk; notes the condition DISK_FULL of jobs."""

    def __init__(self, table: JobTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._refused: set[str] = set()  # jobs whose last upload found the disk full
        self._reported: set[str] = set()  # jobs whose run reports a full disk

    async def run(
        self,
        job_id: str,
        waits: str,
        work: Callable[[], Awaitable[T]],
        while_: frozenset[State] = NOT_ASKED,
    ) -> T:
        """Return the result of ``work``, repeated every second while the disk is full.

        Raises its error if that is another one, and once the job has left these states.

        Args:
            waits: Name of the work in the condition's message: "the start of its run".
            while_: States of the job in which it waits.
        """
        waiting = False
        try:
            while True:
                try:
                    return await work()
                except (DbpError, OSError) as error:
                    if not is_full(error) or not self._is_in(job_id, while_):
                        raise
                    text = f"{waits} waits for space: {_text(error)}"
                    if not waiting:
                        log.warning("job %s: %s", job_id, text)
                    waiting = True
                    self._table.note_condition(job_id, ConditionKind.DISK_FULL, text)
                await self._clock.sleep(RETRY_SECONDS)
        finally:
            if waiting:
                self._table.note_condition(job_id, ConditionKind.DISK_FULL, None)

    @contextlib.asynccontextmanager
    async def upload(self, job_id: str) -> AsyncIterator[None]:
        """Show that a version of the run cannot be stored, until one can."""
        try:
            yield
        except DiskFull as error:
            self._refused.add(job_id)
            text = f"the next version waits for space: {error}"
            self._table.note_condition(job_id, ConditionKind.DISK_FULL, text)
            raise
        if job_id in self._refused:
            self._refused.discard(job_id)
            self._table.note_condition(job_id, ConditionKind.DISK_FULL, None)

    def forget(self, job_id: str) -> None:
        """Forget an attempt that has ended."""
        self._refused.discard(job_id)
        self._reported.discard(job_id)

    def note_report(self, job_id: str, progress: ProgressReport) -> None:
        """Show a full disk that the run of the job reports, and the end of that."""
        if progress.disk_full:
            self._reported.add(job_id)
            self._table.note_condition(job_id, ConditionKind.DISK_FULL, progress.disk_full)
        elif job_id in self._reported:
            self._reported.discard(job_id)
            self._table.note_condition(job_id, ConditionKind.DISK_FULL, None)

    def _is_in(self, job_id: str, states: frozenset[State]) -> bool:
        job = self._table.live(job_id)
        return job is not None and job.state in states


def _text(error: DbpError | OSError) -> str:
    return str(error) if isinstance(error, DbpError) else (error.strerror or str(error))
