"""Connections of running attempts; gives up runs started by hand that stay silent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import final

from dbp.control.attachment import Attachment
from dbp.control.clock import Clock
from dbp.control.ledger import Ledger
from dbp.errors import WrongState
from dbp.job.state import EventKind, Job, State
from dbp.quantities import count_text

log = logging.getLogger("dbp.control")


@final
class Contacts:
    """The newest connection of each run. A lost connection is a condition, never a kill."""

    def __init__(
        self, ledger: Ledger, clock: Clock, *, patience: float, give_up: Callable[[str], None]
    ) -> None:
        """Call ``give_up`` with the job id of a run started by hand after ``patience`` seconds
        of silence.
        """
        self._ledger = ledger
        self._clock = clock
        self._patience = patience
        self._give_up = give_up
        self._attachments: dict[str, Attachment] = {}
        self._timers: dict[str, asyncio.Task[None]] = {}

    def attach(self, job: Job, *, world_size: int, host: str, total_steps: int) -> Attachment:
        """Return a new connection of the job's run; it replaces an older one."""
        if world_size != job.workers:
            raise WrongState(
                f"job {job.id}: the run counts {count_text(world_size, 'rank')}, the job has "
                f"{count_text(job.workers, 'worker')}; is mpirun of another MPI than mpi4py's?"
            )
        log.info("job %s: attempt %d on %s, %d steps", job.id, job.attempt, host, total_steps)
        if job.state is State.STARTING:
            job = self._ledger.record(job.id, EventKind.RUNNING, host=host)
        self.forget(job.id)
        attachment = Attachment(job.id, job.attempt)
        if not job.state.terminal:
            self._attachments[job.id] = attachment
        if job.state in (State.CANCELLING, State.CANCELLED):
            attachment.ask(stop=True)
        return attachment

    def detach(self, attachment: Attachment) -> None:
        """Drop a connection that broke; does nothing if a newer one replaced it."""
        attachment.close()
        if self._attachments.get(attachment.job_id) is attachment:
            del self._attachments[attachment.job_id]
            job = self._ledger.get(attachment.job_id)
            if job.attached and not job.state.terminal:
                self.expect(job.id)

    def ask(self, job_id: str, *, stop: bool = False, publish: bool = False) -> bool:
        """Send a request to a run; returns False if the run is not connected."""
        attachment = self._attachments.get(job_id)
        if attachment is not None:
            attachment.ask(stop=stop, publish=publish)
        return attachment is not None

    def expect(self, job_id: str) -> None:
        """Give up a run started by hand unless it connects within the patience."""
        self._timers[job_id] = asyncio.create_task(self._wait(job_id))

    def forget(self, job_id: str) -> None:
        """Close the run's connection and stop its timer."""
        timer = self._timers.pop(job_id, None)
        if timer is not None:
            timer.cancel()
        attachment = self._attachments.pop(job_id, None)
        if attachment is not None:
            attachment.close()

    def close(self) -> None:
        """Close all connections and timers; gives up no run."""
        for job_id in [*self._attachments, *self._timers]:
            self.forget(job_id)

    async def _wait(self, job_id: str) -> None:
        await self._clock.sleep(self._patience)
        del self._timers[job_id]
        self._give_up(job_id)
