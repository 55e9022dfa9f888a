"""Synchronous client: the async core on a thread of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NoReturn, Self, final, overload

from dbp.client.async_client import AsyncClient
from dbp.client.job import JobHandle
from dbp.client.loop_thread import LoopThread
from dbp.client.spec import ValidatedJob
from dbp.client.transport.calls import not_picklable
from dbp.client.transport.connection import PATIENCE_SECONDS, TIMEOUT_SECONDS
from dbp.client.transport.streams import JobUpdate
from dbp.job.spec.given import Spec
from dbp.job.state import Job, State
from dbp.registry import ComponentInfo
from dbp.rpc.forking import check_not_forked


@final
class Client:
    """A connection to one service; ``with`` closes it.

    ``AsyncClient`` describes the methods; errors are those of ``dbp.errors``. Closing the
    client raises ClientClosed in other threads that wait for it.

    Any number of threads may use a client, its job handles and its mirrors; an iterator belongs
    to one thread at a time. They cannot be pickled. gRPC does not survive a fork: in a process
    forked after a client was made, every client raises ClientForked. Start processes by spawn
    or forkserver, or fork before the first client is made. A program that imports grpc before
    dbp should set GRPC_ENABLE_FORK_SUPPORT=0: gRPC's fork handlers crash some children.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        patience: float = PATIENCE_SECONDS,
        token: str | None = None,
        ca: str | Path | None = None,
        cert: str | Path | None = None,
        key: str | Path | None = None,
    ) -> None:
        """Prepare a connection; arguments and errors as for AsyncClient."""
        check_not_forked()
        self._loop = LoopThread()

        async def make() -> AsyncClient:
            return AsyncClient(
                address, timeout=timeout, patience=patience, token=token, ca=ca, cert=cert,
                key=key,
            )  # fmt: skip

        async def nothing() -> None:
            pass

        try:
            self._client = self._loop.run(make())
        except BaseException:
            self._loop.close(nothing())
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise not_picklable(self)

    @property
    def address(self) -> str:
        """HOST:PORT or unix:PATH of the service."""
        return self._client.address

    def close(self) -> None:
        """Close the connection; may be repeated."""
        self._loop.close(self._client.close())

    @overload
    def submit(
        self,
        spec: Spec,
        *,
        workers: int = 1,
        request_id: str | None = None,
        validate_only: Literal[False] = False,
        timeout: float | None = None,
    ) -> JobHandle: ...

    @overload
    def submit(
        self,
        spec: Spec,
        *,
        workers: int = 1,
        request_id: str | None = None,
        validate_only: Literal[True],
        timeout: float | None = None,
    ) -> ValidatedJob: ...

    @overload
    def submit(
        self,
        spec: Spec,
        *,
        workers: int = 1,
        request_id: str | None = None,
        validate_only: bool,
        timeout: float | None = None,
    ) -> JobHandle | ValidatedJob: ...

    def submit(
        self,
        spec: Spec,
        *,
        workers: int = 1,
        request_id: str | None = None,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> JobHandle | ValidatedJob:
        """Submit a job: a spec file, a document or a JobSpec. It is durable on return.

        ``validate_only``: only check it, and return the resolved spec and the notes on it.
        """
        work = self._client.submit(
            spec, workers=workers, request_id=request_id, validate_only=validate_only,
            timeout=timeout,
        )  # fmt: skip
        found = self._loop.run(work)
        if isinstance(found, ValidatedJob):
            return found
        return JobHandle(self._loop, found)

    def job(self, job_id: str, *, timeout: float | None = None) -> JobHandle:
        """Return the job with this id; raises NotFound."""
        return JobHandle(self._loop, self._loop.run(self._client.job(job_id, timeout=timeout)))

    def jobs(self, *states: State, timeout: float | None = None) -> Iterator[Job]:
        """Yield jobs, newest first; only those in the given states, if any are given."""
        return self._loop.iterate(self._client.jobs(*states, timeout=timeout))

    def pause(
        self,
        job_id: str,
        *,
        grace_seconds: float | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Ask a job to write a checkpoint and to stop; return the job."""
        work = self._client.pause(job_id, grace_seconds=grace_seconds, timeout=timeout)
        return self._loop.run(work)

    def resume(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Queue a paused job again; return the job."""
        return self._loop.run(self._client.resume(job_id, timeout=timeout))

    def retry(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Queue a failed or cancelled job again; return the job."""
        return self._loop.run(self._client.retry(job_id, timeout=timeout))

    def delete(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Delete an ended job with its files; return it as it was."""
        return self._loop.run(self._client.delete(job_id, timeout=timeout))

    def components(self, *, timeout: float | None = None) -> list[ComponentInfo]:
        """Return the kinds installed with the service, plug-ins included, and their options."""
        return self._loop.run(self._client.components(timeout=timeout))

    def watch(self, *, timeout: float | None = None) -> Iterator[JobUpdate]:
        """Yield updates of all jobs, forever; ``timeout`` as in AsyncClient.watch."""
        return self._loop.iterate(self._client.watch(timeout=timeout))
