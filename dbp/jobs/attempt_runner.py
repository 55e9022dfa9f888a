"""Launches attempts and watches each to its end: stop, settle, adopt after a restart.

One task per attempt. ``verdict`` decides how an attempt ended and ``retry`` whether the job is
launched again; this module notices that the attempt ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, final

from dbp.errors import DbpError, ResourceExhausted, Unavailable, WrongState
from dbp.job.failure import Failure
from dbp.job.failure_text import attempt_text
from dbp.job.state import EventKind, Job, RunOutcome, State
from dbp.jobs.config import Clock
from dbp.jobs.connections import RunConnections, new_secret
from dbp.jobs.damaged_checkpoints import note_damaged
from dbp.jobs.disk_wait import DiskWait
from dbp.jobs.drain import Drain
from dbp.jobs.forced_stops import ForcedStops
from dbp.jobs.job_table import JobTable
from dbp.jobs.retry import after_end, note_outcome
from dbp.jobs.run_results import RunResults
from dbp.jobs.stall_watch import StallWatch
from dbp.jobs.store import Store
from dbp.jobs.verdict import given_up, last_progress, verdict
from dbp.launch.launcher import Exit, Launcher, LaunchRequest, Running
from dbp.log_fields import log_fields
from dbp.storage.full_disk import is_full
from dbp.storage.state_folder import StateFolder
from dbp.storage.threads import in_thread
from dbp.versions.publisher import VersionPublisher

# How an attempt ends: event and failure. Decided when no other change can come in between.
Decide: TypeAlias = Callable[[Job], tuple[EventKind, Failure | None]]

SETTLE_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 1.0

log = logging.getLogger("dbp.jobs")


@final
class AttemptRunner:
    """Runs attempts.

    Calls ``released`` with the job's id when its last attempt has ended and its slots are free,
    ``requeued`` with the job when it waits for the next one.
    """

    def __init__(
        self,
        folder: StateFolder,
        store: Store,
        table: JobTable,
        *,
        launcher: Launcher,
        connections: RunConnections,
        publisher: VersionPublisher,
        clock: Clock,
        released: Callable[[str], Awaitable[None]],
        requeued: Callable[[Job], Awaitable[None]],
    ) -> None:
        """Store the collaborators; starts nothing."""
        self._folder = folder
        self._store = store
        self._table = table
        self._launcher = launcher
        self._connections = connections
        self._publisher = publisher
        self._clock = clock
        self.disk = DiskWait(table, clock)
        self._results = RunResults(folder, store, launcher, publisher, self.disk)
        self._released = released
        self._stalls = StallWatch(folder, table, clock)
        self._requeued = requeued
        self._running: dict[str, Running] = {}
        self.drain = Drain(self._running)
        self._stops = ForcedStops(self._running, clock, self._spawn)
        self._tasks: set[asyncio.Task[None]] = set()

    def launch(self, job: Job, secret: str) -> None:
        """Start the processes of a job that has just become STARTING."""
        self._spawn(self._guarded(job.id, self._launch(job, secret)))

    def adopt(self, job: Job, grace: float) -> None:
        """Find the processes of a job that an earlier service started."""
        self._spawn(self._guarded(job.id, self._adopt(job, grace)))

    def stop(self, job: Job, grace: float) -> None:
        """Stop the run of a CANCELLING or PAUSING job, by force after the grace.

        A later call replaces the grace. A run started by hand can only be asked.
        """
        asked = self._connections.ask(job.id, stop=True)
        if job.attached:
            return
        if not asked:
            self._stops.signal(job)  # it is not connected (yet)
        self._stops.after(grace, job)

    def settle(self, job_id: str, ended: Exit | None) -> None:
        """End a job whose run has ended."""
        self._spawn(self._guarded(job_id, self._settle(job_id, ended)))

    def end(self, job_id: str, decide: Decide) -> None:
        """End a job as ``decide`` says, unless it raises WrongState."""
        self._spawn(self._end(job_id, decide))

    def later(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """Call ``work`` after some seconds."""
        self._spawn(self._later(seconds, work))

    async def close(self) -> None:
        """Stop watching; the processes continue."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[object, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("work in the background failed", exc_info=task.exception())

    async def _guarded(self, job_id: str, work: Coroutine[object, None, None]) -> None:
        """Do the work on an attempt; end the attempt if it raises an unforeseen exception.

        The job would keep its slots otherwise, without an attempt that is watched.
        """
        job = self._table.live(job_id)
        try:
            with log_fields(job=job_id, attempt=job.attempt if job else 0):
                await work
        except Exception as error:
            log.exception("job %s: its attempt is ended", job_id)
            ended = Exit(error=f"the service failed to run it: {type(error).__name__}: {error}")
            await self._end(job_id, lambda job: verdict(job, ended, None))

    def _attempt_folder(self, job: Job) -> Path:
        return self._folder.attempt_folder(job.id, job.attempt)

    async def _launch(self, job: Job, secret: str) -> None:
        newest, resume = job.latest_parameters, job.attempt > 1
        request = LaunchRequest(
            job_id=job.id,
            attempt=job.attempt,
            workers=job.workers,
            document=job.spec,
            secret=secret,
            folder=self._attempt_folder(job),
            service_file=self._folder.service_file,
            run=self._folder.run_folder(job.id),
            resume=resume,
            published=(0, 0) if newest is None else (newest.rollbacks, newest.step),
            data_digest="" if resume else job.data_digest,  # checkpoints have their own
            confined=job.confined,
        )

        async def start() -> Running:
            if resume:
                before = partial(self._folder.take_over_run, job.id, job.attempt - 1)
                await in_thread(before)
                await note_damaged(self._table, job, await self._results.checkpoint(job))
            return await self._launcher.start(request)

        try:
            running = await self.disk.run(job.id, "the start of its run", start)
        except (DbpError, OSError) as error:
            asked = is_full(error)  # to end, while it waited for space
            await self._settle(job.id, Exit() if asked else Exit(error=str(error)))
        else:
            await self._watch(job.id, running)

    async def _adopt(self, job: Job, grace: float) -> None:
        if job.state.stopping:  # a later request has its own grace
            self._stops.after(grace, job)
        running = await self._launcher.adopt(self._attempt_folder(job))
        job = await self._table.get(job.id)
        if running is not None:
            await self._watch(job.id, running)
        elif job.state.stopping:
            await self._settle(job.id, Exit())
        else:
            # The last service died between its promise to start and the start.
            await self._relaunch(job)

    async def _relaunch(self, job: Job) -> None:
        secret, secret_hash = new_secret()
        try:
            await self._store.set_secret(job.id, job.attempt, secret_hash)
        except DbpError as error:
            await self._settle(job.id, Exit(error=str(error)))
        else:
            await self._launch(job, secret)

    async def _watch(self, job_id: str, running: Running) -> None:
        self._running[job_id] = running
        try:
            if self._stops.grace_of(job_id) is not None:
                await running.kill()
            elif (job := self._table.live(job_id)) and job.state.stopping:
                running.request_stop()
            self.drain.watched(job_id)
            async with self._stalls.watching(job_id, running):
                ended = self.drain.explained(job_id, await running.wait())
        except Exception:
            await running.kill()
            raise
        finally:
            del self._running[job_id]
        await self._settle(job_id, ended)

    async def _later(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        await self._clock.sleep(seconds)
        await work()

    async def _settle(self, job_id: str, ended: Exit | None) -> None:
        await self._publisher.settled(job_id, SETTLE_SECONDS)
        job = self._table.live(job_id)
        if job is None:
            return
        outcome = await self._results.outcome(job)
        stall, unpublished = await self._stalls.report(job, ended), ""
        if outcome is not None and (stall is None or outcome.status == "succeeded"):
            unpublished = await self._results.publish_final(job, outcome)
        checkpoint = (await self._results.checkpoint(job)).step

        def decide(job: Job) -> tuple[EventKind, Failure | None]:
            kind, failure = verdict(job, ended, outcome, self._stops.grace_of(job_id), stall)
            if unpublished and job.state is State.CANCELLING:
                kind, failure = EventKind.CANCELLED, given_up(job, unpublished)
            # The newest report may be older than the newest checkpoint.
            return kind, failure and replace(
                failure, checkpoint_step=checkpoint, step=max(failure.step, checkpoint)
            )

        await self._end(job_id, decide, outcome, checkpoint)

    async def _end(
        self,
        job_id: str,
        decide: Decide,
        outcome: RunOutcome | None = None,
        checkpoint: int | None = None,
    ) -> None:
        """Make the end durable, retrying while the disk is full, then free the slots."""
        warned = False
        while True:
            try:
                await self._table.alone(
                    lambda: self._ended(job_id, decide, outcome, checkpoint)
                )
            except WrongState:
                return  # it has ended already, or is not to end
            except (ResourceExhausted, Unavailable) as error:
                if not warned:
                    log.warning("job %s: its end cannot be stored yet: %s", job_id, error)
                warned = True
                await self._clock.sleep(RETRY_SECONDS)
            else:
                return

    async def _ended(
        self,
        job_id: str,
        decide: Decide,
        outcome: RunOutcome | None,
        checkpoint: int | None,
    ) -> None:
        job = await self._table.get(job_id)
        kind, change = after_end(job, *decide(job), self._clock.time())
        if checkpoint is not None:
            change["checkpoint_step"] = checkpoint
        change["progress"] = last_progress(job, outcome)
        if kind in (EventKind.SUCCEEDED, EventKind.FAILED, EventKind.CANCELLED):
            note_outcome(change, outcome)
        job = await self._table.record(job_id, kind, **change)
        self._stops.forget(job_id)
        self._stalls.forget(job_id)
        self.disk.forget(job_id)
        self._connections.end(job_id)
        if kind is EventKind.REQUEUED:
            if (failure := job.previous_failure) is not None:
                log.info("job %s: launched again: %s", job_id, attempt_text(failure))
            await self._requeued(job)
        else:
            await self._released(job_id)
