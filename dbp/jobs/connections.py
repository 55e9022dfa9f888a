"""Connections of running attempts: their secrets, the requests sent to them, and silent ones.

No network code. Runs started by hand that stay silent are given up.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Self, final

from dbp.errors import WrongState
from dbp.job.failure import ConditionKind
from dbp.job.state import EventKind, Job, State
from dbp.jobs.config import Clock
from dbp.jobs.job_table import JobTable
from dbp.jobs.link_fence import LinkFence, LinkNumber
from dbp.jobs.link_silence import LinkSilence
from dbp.jobs.silent_runs import SilentRuns
from dbp.quantities import count_text, duration_text


def new_secret() -> tuple[str, bytes]:
    """Return a secret of 256 random bits, and its hash."""
    secret = secrets.token_urlsafe(32)
    return secret, hash_secret(secret)


def hash_secret(secret: str) -> bytes:
    """Return the SHA-256; a random secret of 256 bits needs no slow hash."""
    return sha256(secret.encode()).digest()


@dataclass(frozen=True)
class Request:
    """A request to a run."""

    stop: bool = False
    publish: bool = False


@dataclass
class AppliedReports:
    """The newest report of an attempt that was applied, by sequence; its connections share it.

    A link that lost an answer sends reports again, and so does a link that replaces another.
    """

    newest: int = 0


@final
class RunConnection:
    """The connection of one run's rank 0: a queue of requests, equal ones merged. Iterate it to
    send them. Iteration ends when a newer connection replaces this one, or when the service
    shuts down.
    """

    def __init__(self, job_id: str, link: LinkNumber, applied: AppliedReports) -> None:
        self.job_id = job_id
        self.link = link
        self.applied = applied
        self._stop = False
        self._publish = False
        self._closed = False
        self._changed = asyncio.Event()

    def ask(self, *, stop: bool = False, publish: bool = False) -> None:
        """Add a request; returns immediately."""
        self._stop |= stop
        self._publish |= publish
        self._changed.set()

    def close(self) -> None:
        """End the iteration; later requests are dropped."""
        self._closed = True
        self._changed.set()

    def __aiter__(self) -> AsyncIterator[Request]:
        return self

    async def __anext__(self) -> Request:
        while not (self._stop or self._publish):
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        request = Request(self._stop, self._publish)
        self._stop = self._publish = False
        return request

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


log = logging.getLogger("dbp.jobs")


@final
class RunConnections:
    """The newest connection of each run. A lost connection is a condition, never a kill."""

    def __init__(
        self, table: JobTable, clock: Clock, *, patience: float, give_up: Callable[[str], None]
    ) -> None:
        """Call ``give_up`` with the job id of a run started by hand after ``patience`` seconds
        of silence.
        """
        self._table = table
        self._clock = clock
        self._patience = patience
        self._patience_text = f"after {duration_text(patience)} of silence"
        self._give_up = give_up
        self.fence = LinkFence()
        self.silence = LinkSilence(table, clock)
        self._silent = SilentRuns(table, clock)
        self._by_job: dict[str, RunConnection] = {}
        self._applied: dict[str, tuple[int, AppliedReports]] = {}  # by job, with the attempt
        self._timers: dict[str, asyncio.Task[None]] = {}

    def admit(self, job_id: str, link: LinkNumber) -> None:
        """Let a link of a live run call; older ones are disconnected and can call no more.

        Raises:
            WrongState: a newer link of the run has called before.
        """
        job = self._table.live(job_id)
        if job is None or not job.state.launched or not self.fence.advance(job_id, link):
            return
        if link.generation > 1:
            log.info("job %s: link %d of attempt %d", job_id, link.generation, link.attempt)
        connection = self._by_job.get(job_id)
        if connection is not None and connection.link < link:
            self.detach(connection)

    async def attach(
        self, job: Job, generation: int, *, world_size: int, host: str, total_steps: int
    ) -> RunConnection:
        """Return a new connection of the job's run, by the link of this generation; it replaces
        an older one.
        """
        if world_size != job.workers:
            raise WrongState(
                f"job {job.id}: the run counts {count_text(world_size, 'rank')}, the job has "
                f"{count_text(job.workers, 'worker')}; is mpirun of another MPI than mpi4py's?"
            )
        log.info("job %s: attempt %d on %s, %d steps", job.id, job.attempt, host, total_steps)
        await self._table.alone(lambda: self._note_running(job.id, host))
        # From here to the end nothing is awaited for a live job: a request to stop either has
        # changed its state already, or finds the connection.
        job = await self._table.get(job.id)
        if not (job.state.launched or job.state.terminal):
            raise WrongState(f"job {job.id} is {job.state}: attempt {job.attempt} has ended")
        link = LinkNumber(job.attempt, generation)
        self.fence.check(job.id, link)
        self.forget(job.id)
        attempt, applied = self._applied.get(job.id, (0, AppliedReports()))
        if attempt != job.attempt:
            applied = AppliedReports()
        connection = RunConnection(job.id, link, applied)
        self._table.note_report(job.id)
        self.silence.heard(job.id)
        if not job.state.terminal:
            self._by_job[job.id] = connection
            self._applied[job.id] = job.attempt, applied
            if job.attached:
                self._silent.start(job.id)
        if job.state.stopping or job.state is State.CANCELLED:
            connection.ask(stop=True)
        return connection

    async def _note_running(self, job_id: str, host: str) -> None:
        if (await self._table.get(job_id)).state is State.STARTING:
            await self._table.record(job_id, EventKind.RUNNING, host=host)

    def detach(self, connection: RunConnection) -> None:
        """Drop a connection that broke; does nothing if a newer one replaced it."""
        connection.close()
        if self._by_job.get(connection.job_id) is connection:
            del self._by_job[connection.job_id]
            job = self._table.live(connection.job_id)
            if job is not None and job.attached:
                self._silent.stop(job.id)
                self.expect(job.id)

    def ask(self, job_id: str, *, stop: bool = False, publish: bool = False) -> bool:
        """Send a request to a run; returns False if the run is not connected."""
        connection = self._by_job.get(job_id)
        if connection is not None:
            connection.ask(stop=stop, publish=publish)
        return connection is not None

    def connected(self, job_id: str) -> bool:
        """Return whether the job's run is connected."""
        return job_id in self._by_job

    def expect(self, job_id: str) -> None:
        """Give up a run started by hand unless it connects within the patience."""
        job = self._table.live(job_id)
        if job is not None and job.state is not State.STARTING:  # it was connected before
            message = f"the run is not connected; it counts as failed {self._patience_text}"
            self._table.note_condition(job_id, ConditionKind.LOST_CONTACT, message)
        self._timers[job_id] = asyncio.create_task(self._wait(job_id))

    def forget(self, job_id: str) -> None:
        """Close the run's connection and stop its timer."""
        self._silent.stop(job_id)
        timer = self._timers.pop(job_id, None)
        if timer is not None:
            timer.cancel()
        connection = self._by_job.pop(job_id, None)
        if connection is not None:
            connection.close()

    def end(self, job_id: str) -> None:
        """Drop all that is known of the runs of a job that has ended."""
        self.forget(job_id)
        self._applied.pop(job_id, None)
        self.fence.end(job_id)
        self.silence.end(job_id)

    def close(self) -> None:
        """Close all connections and timers; gives up no run."""
        self.silence.close()
        for job_id in [*self._by_job, *self._timers]:
            self.forget(job_id)

    async def _wait(self, job_id: str) -> None:
        await self._clock.sleep(self._patience)
        del self._timers[job_id]
        self._give_up(job_id)
