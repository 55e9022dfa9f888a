"""The control plane's one door: create, show, watch and cancel jobs, and hear their runs.

asyncio, one event loop. Every acknowledgement comes after the durable write. Signatures are
final; the service calls nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from dbp.control.attachment import Attachment
from dbp.control.versions import OpenVersion
from dbp.control.watching import LogItem, WatchItem
from dbp.job.snapshot import Manifest
from dbp.job.state import Job, ProgressReport, RunOutcome, State, Version


@final
class JobManager:
    """All jobs of one service."""

    async def start(self) -> None:
        """Take up where the last service stopped; call once, before serving."""
        raise NotImplementedError

    async def close(self) -> None:
        """End all streams (``draining``) and stop observing; training goes on."""
        raise NotImplementedError

    async def create(
        self,
        document: Mapping[str, Any],
        *,
        workers: int,
        request_id: str = "",
        validate_only: bool = False,
    ) -> Job:
        """A new job, durable. InvalidSpec, WrongState, AlreadyExists, ResourceExhausted."""
        raise NotImplementedError

    async def get(self, job_id: str) -> Job:
        """The job as it stands; NotFound."""
        raise NotImplementedError

    async def list(
        self, states: Sequence[State] = (), page_size: int = 0, page_token: str = ""
    ) -> tuple[list[Job], str]:
        """Jobs, newest first, and the next page's token ("" on the last page)."""
        raise NotImplementedError

    async def cancel(
        self, job_id: str, *, grace_seconds: float | None = None, force: bool = False
    ) -> Job:
        """Ask a job to stop; an ended job is returned as it is. NotFound."""
        raise NotImplementedError

    def watch(
        self, job_id: str | None = None, after_sequence: int | None = None
    ) -> AsyncIterator[WatchItem]:
        """What happens to one job or to all; NotFound and OutOfRange at the first item."""
        raise NotImplementedError

    def logs(
        self, job_id: str, *, attempt: int = 0, offset: int = 0, follow: bool = False
    ) -> AsyncIterator[LogItem]:
        """An attempt's log (0: the newest) from a byte offset; ends with End."""
        raise NotImplementedError

    async def log_path(self, job_id: str, attempt: int = 0) -> Path:
        """Where the attempt's log is, or will be."""
        raise NotImplementedError

    async def wait_version(
        self, job_id: str, newer_than: int, timeout: float
    ) -> Version | None:
        """The newest version above ``newer_than``; None if the time is up or the job ended."""
        raise NotImplementedError

    async def open_version(self, job_id: str, version: int = 0) -> OpenVersion:
        """A verified version (0: newest), held open until closed: NotFound, OutOfRange, ..."""
        raise NotImplementedError

    async def register(
        self, document: Mapping[str, Any], *, workers: int, request_id: str, host: str
    ) -> tuple[Job, str]:
        """A job for a run launched by hand, and its attempt's secret."""
        raise NotImplementedError

    async def authorize(self, job_id: str, attempt: int, secret: str) -> None:
        """Raise Unauthenticated unless the secret is that of the attempt."""
        raise NotImplementedError

    async def attached(
        self, job_id: str, attempt: int, *, world_size: int, host: str, total_steps: int
    ) -> Attachment:
        """The run's rank 0 has come (again); iterate the result for what is asked of it."""
        raise NotImplementedError

    async def detached(self, attachment: Attachment) -> None:
        """The run's stream broke or ended."""
        raise NotImplementedError

    async def report_progress(
        self, job_id: str, attempt: int, progress: ProgressReport
    ) -> None:
        """Note the newest progress."""
        raise NotImplementedError

    async def report_outcome(self, job_id: str, attempt: int, outcome: RunOutcome) -> None:
        """Note how the run says it ended; durable when this returns."""
        raise NotImplementedError

    async def publish(
        self,
        job_id: str,
        attempt: int,
        *,
        step: int,
        manifest: Manifest,
        chunks: AsyncIterable[bytes] | Iterable[bytes],
        final: bool = False,
    ) -> Version:
        """Store one version of the parameters; durable when this returns."""
        raise NotImplementedError
