"""End runs by force that do not stop within the grace of a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import TypeAlias, final

from dbp.job.state import Job
from dbp.jobs.config import Clock
from dbp.launch.launcher import Running

Spawn: TypeAlias = Callable[[Coroutine[object, None, None]], asyncio.Task[None]]


@final
class ForcedStops:
    """Signals stopping runs, then kills them; one deadline for each job, that of the newest
    request.
    """

    def __init__(self, running: Mapping[str, Running], clock: Clock, spawn: Spawn) -> None:
        """``running``: the processes of attempts by job, as they are at the time of use."""
        self._running = running
        self._clock = clock
        self._spawn = spawn
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self._forced: dict[str, float] = {}  # killed jobs, and the grace that they had

    def grace_of(self, job_id: str) -> float | None:
        """Return the grace after which the job was killed; None if it was not."""
        return self._forced.get(job_id)

    def signal(self, job: Job) -> None:
        """Ask the ranks by signal to stop."""
        if (running := self._running.get(job.id)) is not None:
            running.request_stop()

    def after(self, grace: float, job: Job) -> None:
        """Kill the run after the grace, instead of after that of an earlier request."""
        self._drop(job.id)
        self._waiting[job.id] = self._spawn(self._force(job, grace))

    def forget(self, job_id: str) -> None:
        """Drop deadline and record of an attempt that has ended."""
        self._drop(job_id)
        self._forced.pop(job_id, None)

    def _drop(self, job_id: str) -> None:
        if (earlier := self._waiting.pop(job_id, None)) is not None:
            earlier.cancel()

    async def _force(self, job: Job, grace: float) -> None:
        if grace > 0:
            # Rank 0 may not read its connection; all ranks obey a signal, too.
            async with asyncio.TaskGroup() as group:
                group.create_task(self._signal_after(job, grace / 2))
                await self._clock.sleep(grace)
        self._forced.setdefault(job.id, grace)
        if (running := self._running.get(job.id)) is not None:
            await running.kill()

    async def _signal_after(self, job: Job, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self.signal(job)
