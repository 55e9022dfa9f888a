"""The job manager: create, show, watch, cancel and delete jobs; receive the reports of runs.

asyncio, one event loop, one thread. Calls that create, cancel, finish or publish return after
the durable write; progress becomes durable with the job's next event. The caller passes in a
``StateFolder``, a ``Store`` and a ``Launcher``, calls ``start``, and at the end ``close``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, final

from dbp.errors import Unavailable
from dbp.job.state import Job, State
from dbp.jobs.admission import Admission, new_id
from dbp.jobs.attempt_runner import AttemptRunner
from dbp.jobs.checks import Check, CheckApart, Checks, cannot_check
from dbp.jobs.config import Clock, ManagerConfig, SystemClock
from dbp.jobs.connections import RunConnection, RunConnections
from dbp.jobs.drain import WAITING
from dbp.jobs.job_logs import JobLogs
from dbp.jobs.job_queue import JobQueue
from dbp.jobs.job_table import Fits, JobTable
from dbp.jobs.lifecycle import Lifecycle
from dbp.jobs.link_fence import LinkNumber
from dbp.jobs.live_parameters import LiveParameters
from dbp.jobs.metrics_history import MetricsHistory
from dbp.jobs.publish_terms import terms_of
from dbp.jobs.run_reports import RunReports
from dbp.jobs.scheduler import Scheduler
from dbp.jobs.store import Store
from dbp.jobs.verdict import lost_contact
from dbp.jobs.watch import EventBroadcaster
from dbp.jobs.watch_items import LogItem, WatchItem
from dbp.json_value import JsonObject
from dbp.launch.launcher import Launcher
from dbp.storage.metrics_file import MetricsFile
from dbp.storage.state_folder import StateFolder
from dbp.versions.publisher import VersionPublisher
from dbp.versions.store import VersionStore

# After the start: files that an earlier service was killed before deleting can wait.
SWEEP_SECONDS: Final = 10.0


@final
class JobManager:
    """Manages all jobs of one service."""

    def __init__(
        self,
        folder: StateFolder,
        store: Store,
        *,
        launcher: Launcher,
        check: Check,
        check_run: Check | None = None,
        check_apart: CheckApart = cannot_check,
        config: ManagerConfig,
        clock: Clock | None = None,
        new_id: Callable[[str], str] = new_id,
    ) -> None:
        """``check`` resolves a document or raises InvalidSpec, in a thread; ``check_run`` does
        so for runs started by hand (default: ``check``), and ``check_apart`` in a process."""
        clock = clock or SystemClock()
        self._store, self._config, self._closed = store, config, False
        self._queue = JobQueue(launcher.capacity, config.max_queued, clock.time)
        self._events = EventBroadcaster(
            store, heartbeat_seconds=config.heartbeat_seconds, view=self._view
        )
        self._table = JobTable(store, self._events, clock)
        self.versions = VersionStore(folder, store, self._table.change_versions)
        self.publisher = VersionPublisher(
            self.versions, store, terms_of(self._table), clock.time
        )
        self._logs = JobLogs(
            folder, self._table, launcher, draining=lambda: self._closed,
            heartbeat_seconds=config.heartbeat_seconds,
        )  # fmt: skip
        self._admission = Admission(
            store, self._table, self._queue, folder=folder, config=config, clock=clock,
            checks=Checks(check, check_run or check, check_apart), new_id=new_id,
        )  # fmt: skip
        self._connections = RunConnections(
            self._table, clock, patience=config.lost_contact_seconds, give_up=self._give_up
        )
        self.links, self.silence = self._connections.fence, self._connections.silence
        self._runner = AttemptRunner(
            folder,
            store,
            self._table,
            launcher=launcher,
            connections=self._connections,
            publisher=self.publisher,
            clock=clock,
            released=lambda job: self._scheduler.release(job),  # noqa: PLW0108 - made below
            requeued=lambda job: self._scheduler.enqueue(job),  # noqa: PLW0108 - made below
        )
        self.disk, self._drain = self._runner.disk, self._runner.drain
        metrics = MetricsFile(folder.metrics_file, folder.check_present)
        self.history = MetricsHistory(metrics, clock)
        self.reports = RunReports(
            store, self._table, self.history, self.disk,
            settle=lambda job_id: self._runner.settle(job_id, None),
        )  # fmt: skip
        self._scheduler = Scheduler(self._queue, self._table, self._runner, clock, check_apart)
        self.lifecycle = Lifecycle(
            folder, store, self._table, launcher=launcher, runner=self._runner,
            queue=self._queue, scheduler=self._scheduler, versions=self.versions,
            publisher=self.publisher, config=config, clock=clock, view=self._view,
        )  # fmt: skip
        self.parameters = LiveParameters(
            self.versions, store, self._table, self._events.versions, self._connections, clock
        )

    async def start(self) -> None:
        """Load the jobs and adopt running attempts; call once, before serving."""
        jobs = await self._table.load()
        for job in (job for job in jobs if job.state is not State.PAUSED):
            self._queue.place(job.id)
        for job in (job for job in jobs if job.attempt):  # others have published nothing
            await self.versions.sweep(job.id)
        for job in (job for job in jobs if job.state.launched):
            if not job.attached:
                self._queue.hold(job.id, job.workers)
                self._runner.adopt(job, self._config.grace_of(job.state))
                continue
            self._queue.note_run(job.id)
            if await self._store.outcome(job.id, job.attempt) is not None:
                self._runner.settle(job.id, None)
            else:
                self._connections.expect(job.id)
        self._runner.later(SWEEP_SECONDS, self.versions.sweep_evicted)
        self._runner.later(
            SWEEP_SECONDS, partial(self.history.sweep, self._store.ended.is_stored)
        )
        # Last, when it is known how many slots are taken.
        queued = [job for job in jobs if job.state is State.QUEUED]
        await self._table.alone(partial(self._scheduler.load, queued))
        self.lifecycle.start()

    async def close(self) -> None:
        """End all streams (``draining``) and stop watching attempts; training continues."""
        self._closed = True
        self._scheduler.close()
        self._events.close()
        self._connections.close()
        await self.lifecycle.close()
        await self._scheduler.end_checks()
        await self._runner.close()
        await self.history.close()

    # Jobs, for clients

    async def create(
        self,
        document: JsonObject,
        *,
        workers: int,
        request_id: str = "",
        owner: str = "",
        validate_only: bool = False,
    ) -> Job:
        """Return a new job, durable when this returns.

        InvalidSpec; WrongState: more workers than slots; AlreadyExists: the request id was used
        for something else; ResourceExhausted: the queue or the disk is full.
        """
        self._check_open()
        job = await self._admission.admit(
            document,
            workers=workers,
            request_id=request_id,
            owner=owner,
            validate_only=validate_only,
            enqueue=self._scheduler.enqueue,
        )
        return job if validate_only else await self.get(job.id)

    async def get(self, job_id: str) -> Job:
        """Return the job; NotFound."""
        return self._view(await self._table.get(job_id))

    async def list(
        self,
        states: Sequence[State] = (),
        page_size: int = 0,
        page_token: str = "",
        fits: Fits = lambda _: True,
        wanted: Fits = lambda _: True,
    ) -> tuple[list[Job], str]:
        """Return wanted jobs, newest first, and the next page's token ("" on the last page)."""
        return await self._table.page(
            states, page_size, page_token, self._view, fits, wanted=wanted
        )

    async def cancel(
        self, job_id: str, *, grace_seconds: float | None = None, force: bool = False
    ) -> Job:
        """Ask a job to stop and return it; an ended job is returned unchanged. NotFound."""
        return await self.lifecycle.cancel(job_id, grace_seconds=grace_seconds, force=force)

    def watch(
        self, job_id: str | None = None, after_sequence: int | None = None
    ) -> AsyncIterator[WatchItem]:
        """Yield the events of one job or of all, until an End.

        A JobStatus of each job first, unless ``after_sequence`` (an item's ``resume``, not 0)
        says after which event to start. Raises NotFound or OutOfRange at the first item.
        """
        return self._events.watch(job_id, after_sequence)

    def logs(
        self,
        job_id: str,
        *,
        attempt: int = 0,
        offset: int = 0,
        follow: bool = False,
        rank: int | None = None,
    ) -> AsyncIterator[LogItem]:
        """Yield a log from a byte offset; ends with End. Arguments as in ``JobLogs.path``."""
        return self._logs.read(job_id, attempt, offset, rank, follow=follow)

    async def log_path(self, job_id: str, attempt: int = 0, rank: int | None = None) -> Path:
        """Return the path of a log; see ``JobLogs.path``."""
        return await self._logs.path(job_id, attempt, rank)

    # Runs

    async def register(
        self, document: JsonObject, *, workers: int, request_id: str, host: str, owner: str = ""
    ) -> tuple[Job, str]:
        """Return the job of a run started by hand, and a new secret of its attempt.
        ResourceExhausted: the limit of waiting jobs and of runs is reached.
        """
        self._check_open()
        return await self._admission.admit_run(
            document,
            workers=workers,
            request_id=request_id,
            owner=owner,
            host=host,
            expect=self._connections.expect,
        )

    async def authorize(self, job_id: str, link: LinkNumber, secret: str) -> None:
        """Let the newest link of an attempt call; calls of older ones end.

        Raises:
            Unauthenticated: this is not the secret of the attempt.
            WrongState: a newer link has called before.
        """
        await self._admission.authorize(job_id, link.attempt, secret)
        self._connections.admit(job_id, link)

    async def attached(
        self, job_id: str, link: LinkNumber, *, world_size: int, host: str, total_steps: int
    ) -> RunConnection:
        """Connect the run's rank 0; iterate the result for the requests to the run."""
        job = await self._table.get(job_id, link.attempt)
        connection = await self._connections.attach(
            job, link.generation, world_size=world_size, host=host, total_steps=total_steps
        )
        self._events.versions.wake(job_id)  # who waits for fresher parameters can ask for them
        return connection

    def detached(self, connection: RunConnection) -> None:
        """Drop a connection that broke or ended."""
        if not self._closed:
            self._connections.detach(connection)

    # Inside

    def _view(self, job: Job) -> Job:
        """Return the job with its newest progress and the reason why it waits: not stored."""
        job = self._table.live(job.id) or job
        if job.state.terminal:
            return job
        reason = self._queue.waiting_reason(job.id)
        return replace(job, waiting_reason=WAITING if reason and self._drain.active else reason)

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the service is shutting down; try again later")

    def _give_up(self, job_id: str) -> None:
        seconds, connected = self._config.lost_contact_seconds, self._connections.connected
        self._runner.end(
            job_id, lambda job: lost_contact(job, seconds, connected=connected(job_id))
        )
