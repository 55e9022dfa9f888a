"""Requests of users: cancel, pause, resume, retry and delete a job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, final

from dbp.errors import DbpError, WrongState
from dbp.job.state import EventKind, Job, State
from dbp.jobs.attempt_runner import AttemptRunner
from dbp.jobs.clean_up import CleanUp
from dbp.jobs.config import Clock, ManagerConfig
from dbp.jobs.damaged_checkpoints import damage_text
from dbp.jobs.job_queue import JobQueue
from dbp.jobs.job_table import JobTable
from dbp.jobs.quotas import check_job_quota
from dbp.jobs.removal import JobRemoval
from dbp.jobs.run_results import RunResults
from dbp.jobs.scheduler import Scheduler
from dbp.jobs.store import Store
from dbp.jobs.watch import View
from dbp.jobs.watch_items import Change
from dbp.launch.launcher import Launcher
from dbp.storage.state_folder import StateFolder
from dbp.versions.publisher import VersionPublisher
from dbp.versions.store import VersionStore

log = logging.getLogger("dbp.jobs")

_RUNNING: Final = (State.STARTING, State.RUNNING)


@final
class Lifecycle:
    """Changes the states of jobs as users ask. Every change is durable on return."""

    def __init__(
        self,
        folder: StateFolder,
        store: Store,
        table: JobTable,
        *,
        launcher: Launcher,
        runner: AttemptRunner,
        queue: JobQueue,
        scheduler: Scheduler,
        versions: VersionStore,
        publisher: VersionPublisher,
        config: ManagerConfig,
        clock: Clock,
        view: View,
    ) -> None:
        """Store the collaborators; ``start`` begins to delete."""
        self._table = table
        self._store = store
        self._results = RunResults(folder, store, launcher, publisher, runner.disk)
        self._runner = runner
        self._queue = queue
        self._scheduler = scheduler
        self._versions = versions
        self._config = config
        self._view = view
        table.notice(self._noticed)
        self._removal = JobRemoval(folder, store, table, publisher)
        self._clean_up = CleanUp(
            folder,
            store,
            self._removal,
            clock,
            keep_ended_seconds=config.keep_ended_seconds,
            max_disk_bytes=config.max_disk_bytes,
        )
        self._cleaning: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Remove leftovers of deleted jobs; then delete ended jobs above the limits."""
        self._cleaning = asyncio.create_task(self._clean())
        self._cleaning.add_done_callback(_log_failure)

    async def close(self) -> None:
        """Delete no more jobs unasked, and end the deletions that have begun."""
        if self._cleaning is not None:
            self._cleaning.cancel()
            await asyncio.gather(self._cleaning, return_exceptions=True)
        await self._removal.close()

    async def _clean(self) -> None:
        try:
            await self._removal.sweep()
        except (DbpError, OSError) as error:
            log.warning("files of deleted jobs stay until the next start: %s", error)
        await self._clean_up.run()

    async def cancel(
        self, job_id: str, *, grace_seconds: float | None = None, force: bool = False
    ) -> Job:
        """Ask a job to stop; return it. An ended job stays as it is. JobNotFound."""
        grace = (
            self._config.grace_of(State.CANCELLING) if grace_seconds is None else grace_seconds
        )
        grace = 0.0 if force else max(0.0, grace)

        async def stop() -> None:
            job = await self._table.get(job_id)
            if job.state in (State.QUEUED, State.PAUSED):
                await self._table.record(job_id, EventKind.CANCELLED)
                await self._scheduler.release(job_id)
            elif job.state in (*_RUNNING, State.PAUSING):
                self._runner.stop(await self._table.record(job_id, EventKind.CANCELLING), grace)
            elif job.state is State.CANCELLING and force:
                self._runner.stop(job, grace)

        await self._table.alone(stop)
        return await self._present(job_id)

    async def pause(self, job_id: str, *, grace_seconds: float | None = None) -> Job:
        """Ask a job to write a checkpoint and to stop, or take it out of the queue; return it.

        JobNotFound; WrongState: the job is being cancelled, has ended, or was started by hand.
        """
        grace = self._config.grace_of(State.PAUSING) if grace_seconds is None else grace_seconds

        async def stop() -> None:
            job = await self._table.get(job_id)
            if job.state is State.QUEUED:
                await self._table.record(job_id, EventKind.PAUSED)
                await self._scheduler.release(job_id)
            elif job.state in _RUNNING:
                _check_startable(job, "paused")
                job = await self._table.record(job_id, EventKind.PAUSING)
                self._runner.stop(job, max(0.0, grace))
            elif job.state not in (State.PAUSING, State.PAUSED):
                raise _refused(job, "paused", (State.QUEUED, *_RUNNING))

        await self._table.alone(stop)
        return await self._present(job_id)

    async def resume(self, job_id: str) -> Job:
        """Queue a paused job again; return it. One that waits or runs stays as it is.

        JobNotFound; WrongState: the job is in another state; ResourceExhausted: the queue is
        full.
        """

        async def queue() -> None:
            job = await self._table.get(job_id)
            if job.state is State.PAUSED:
                await self._enqueue(job_id, EventKind.RESUMED)
            elif job.state not in (State.QUEUED, *_RUNNING):
                raise _refused(job, "resumed", (State.PAUSED,))

        await self._table.alone(queue)
        return await self._present(job_id)

    async def retry(self, job_id: str) -> Job:
        """Queue a job again that failed or was cancelled; return it.

        It continues from its newest checkpoint. One that waits or runs stays as it is.

        JobNotFound; WrongState: the job is in another state, has no checkpoint, or was started
        by hand; ResourceExhausted: the queue is full.
        """

        found = await self._table.get(job_id)
        checkpoint = await self._results.checkpoint(found)

        async def queue() -> None:
            job = await self._table.get(job_id)
            if job.state in (State.QUEUED, *_RUNNING):
                return
            if job.state not in (State.FAILED, State.CANCELLED):
                raise _refused(job, "retried", (State.FAILED, State.CANCELLED))
            _check_startable(job, "retried")
            if not checkpoint.step:
                damage = f" ({damage_text(checkpoint)})" if checkpoint.damaged else ""
                raise WrongState(
                    f"job {job_id} has no {'sound ' * bool(damage)}checkpoint to continue "
                    f"from{damage}; submit it again, to begin at step 0: dbp submit SPEC"
                )
            check_job_quota(self._table, self._config, job.owner)
            await self._enqueue(job_id, EventKind.RETRIED)

        await self._table.alone(queue)
        return await self._present(job_id)

    async def get_deleted(self, job_id: str) -> Job:
        """Return a job, also one that was deleted, with the name of its spec; JobNotFound."""
        return await self._store.get(job_id, deleted=True)

    async def delete(self, job_id: str, *, request_id: str = "") -> Job:
        """Delete an ended job with all its files; return it as it was.

        Raises as ``JobRemoval.delete``.
        """
        return await self._removal.delete(job_id, request_id=request_id)

    def begin_drain(self, *, stop: bool) -> list[str]:
        """Start no more jobs; ``stop``: ask those that run to stop. Return their ids.

        A job that was stopped is queued again.
        """
        self._runner.drain.begin(stop=stop)
        return self._queue.holding

    async def end_drain(self) -> None:
        """Let the queued jobs start again."""
        self._runner.drain.end()
        await self._scheduler.start_what_fits()

    async def _enqueue(self, job_id: str, kind: EventKind) -> None:
        self._queue.check_length()
        await self._scheduler.enqueue(await self._table.record(job_id, kind))

    async def _present(self, job_id: str) -> Job:
        return self._view(await self._table.get(job_id))

    def _noticed(self, change: Change) -> None:
        """Drop the cached versions of a job whose change has changed their rows."""
        if change.kind is EventKind.DELETED:
            self._versions.forget(change.job.id)
        elif change.kind in (EventKind.REQUEUED, EventKind.PAUSED, EventKind.RETRIED):
            self._versions.reread(change.job.id)  # none of them is final any more


def _check_startable(job: Job, done: str) -> None:
    """Raise WrongState for a run that the service cannot launch again."""
    if job.attached:
        raise WrongState(
            f"job {job.id} was started by hand, so the service cannot launch it again and it "
            f"cannot be {done}; stop it (dbp cancel {job.id}) and continue it where it was "
            "started: dbp train --resume RUN, with the folder of its run"
        )


def _refused(job: Job, done: str, states: Sequence[State]) -> WrongState:
    """Return the error for a request that the state of the job forbids, with a remedy."""
    remedy = {
        State.PAUSED: f"continue it: dbp resume {job.id}",
        State.PAUSING: f"wait until it is PAUSED: dbp watch {job.id}",
        State.CANCELLING: f"once it is CANCELLED, continue it: dbp retry {job.id}",
        State.FAILED: f"continue it: dbp retry {job.id}",
        State.CANCELLED: f"continue it: dbp retry {job.id}",
        State.SUCCEEDED: "submit it again, or train longer from its parameters "
        "(train.initial_parameters)",
    }[job.state]
    *others, last = states
    allowed = f"{', '.join(others)} or {last}" if others else last
    return WrongState(
        f"job {job.id} is {job.state}: only a {allowed} job can be {done}; {remedy}"
    )


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("no more jobs are deleted unasked", exc_info=task.exception())
