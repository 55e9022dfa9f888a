"""The logs of jobs: of an attempt, or of one of its ranks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import final

from dbp.errors import InvalidInput, NotFound
from dbp.jobs.job_table import JobTable
from dbp.jobs.logs import attempt_ended, read_log
from dbp.jobs.watch_items import LogItem
from dbp.launch.launcher import Launcher
from dbp.storage.state_folder import StateFolder


@final
class JobLogs:
    """Finds and reads the logs of attempts."""

    def __init__(
        self,
        folder: StateFolder,
        table: JobTable,
        launcher: Launcher,
        *,
        draining: Callable[[], bool],
        heartbeat_seconds: float,
    ) -> None:
        """``draining``: whether the service shuts down, so that readers are sent away."""
        self._folder = folder
        self._table = table
        self._launcher = launcher
        self._draining = draining
        self._heartbeat_seconds = heartbeat_seconds

    async def read(
        self, job_id: str, attempt: int, offset: int, rank: int | None, *, follow: bool
    ) -> AsyncGenerator[LogItem, None]:
        """Yield a log from a byte offset; ends with End. Arguments as in ``path``."""
        if offset < 0:
            raise InvalidInput(f"offset: must be >= 0, got {offset}")
        path = await self.path(job_id, attempt, rank)
        number = attempt or max(1, (await self._table.get(job_id)).attempt)
        reading = read_log(
            path,
            offset,
            follow=follow,
            ended=lambda: attempt_ended(self._table.live(job_id), number),
            continues=lambda: self._table.live(job_id) is not None,
            draining=self._draining,
            heartbeat_seconds=self._heartbeat_seconds,
        )
        async with aclosing(reading) as items:
            async for item in items:
                yield item

    async def path(self, job_id: str, attempt: int, rank: int | None) -> Path:
        """Return the path of a log, which may not exist yet; NotFound.

        Args:
            job_id: Id of the job.
            attempt: Number of the attempt; 0 for the newest.
            rank: With the output of this rank only; None for that of mpirun and all ranks.
        """
        job = await self._table.get(job_id)
        newest = max(1, job.attempt)
        if not 0 <= attempt <= newest:
            raise NotFound(f"job {job_id}: no attempt {attempt}; the newest is {newest}")
        if rank is not None and not 0 <= rank < job.workers:
            last = job.workers - 1
            ranks = f"its ranks are 0 to {last}" if last else "its only rank is 0"
            raise NotFound(f"job {job_id}: no rank {rank}; {ranks}")
        folder = self._folder.attempt_folder(job_id, attempt or newest)
        return self._launcher.log_file(folder, rank if job.workers > 1 else None)
