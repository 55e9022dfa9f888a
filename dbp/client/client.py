"""The client for plain Python: the async core on a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, Self, TypeVar, final

from dbp.client.async_client import AsyncClient, AsyncJobHandle, Spec
from dbp.client.download import OnBytes
from dbp.client.parameter_set import ParameterSet
from dbp.client.streams import JobUpdate
from dbp.job.state import Job, State
from dbp.rpc.channel import DEFAULT_ADDRESS

T = TypeVar("T")


@final
class _Loop:
    """An event loop on a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``; an interrupted wait cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The items, one by one, as they come; leaving early closes their source."""
        done = object()

        async def following() -> Any:
            return await anext(items, done)

        try:
            while (item := self.run(following())) is not done:
                yield item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                self.run(close())

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@final
class Client:
    """A connection to one service; ``with`` closes it. May be used from several threads.

    See ``AsyncClient`` for what the methods do; errors are those of ``dbp.errors``.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, **options: Any) -> None:
        """Nothing is sent yet; ``options`` as for AsyncClient. InvalidInput."""
        self._loop = _Loop()

        async def make() -> AsyncClient:
            return AsyncClient(address, **options)

        try:
            self._client = self._loop.run(make())
        except BaseException:
            self._loop.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._loop.run(self._client.close())
        self._loop.close()

    def submit(self, spec: Spec, **options: Any) -> JobHandle:
        """Ask for a job; options: workers, request_id, validate_only."""
        return JobHandle(self._loop, self._loop.run(self._client.submit(spec, **options)))

    def job(self, job_id: str) -> JobHandle:
        """The job with this id, or whose id alone begins so; NotFound."""
        return JobHandle(self._loop, self._loop.run(self._client.job(job_id)))

    def jobs(self, *states: State) -> Iterator[Job]:
        """Jobs, newest first."""
        return self._loop.iterate(self._client.jobs(*states))

    def watch(self) -> Iterator[JobUpdate]:
        """Updates of all jobs, for ever."""
        return self._loop.iterate(self._client.watch())


@final
class JobHandle:
    """One job of a service; see ``AsyncJobHandle`` for what the methods do."""

    def __init__(self, loop: _Loop, handle: AsyncJobHandle) -> None:
        self._loop = loop
        self._handle = handle
        self.id = handle.id

    def get(self) -> Job:
        """The job as it stands."""
        return self._loop.run(self._handle.get())

    def wait(self) -> Job:
        """Return the job once it has ended."""
        return self._loop.run(self._handle.wait())

    def watch(self) -> Iterator[JobUpdate]:
        """Every change and the newest progress, until the job has ended."""
        return self._loop.iterate(self._handle.watch())

    def logs(self, *, follow: bool = False, attempt: int = 0) -> Iterator[str]:
        """Lines of its log."""
        return self._loop.iterate(self._handle.logs(follow=follow, attempt=attempt))

    def cancel(self, *, force: bool = False, grace_seconds: float | None = None) -> Job:
        """Ask it to stop."""
        return self._loop.run(self._handle.cancel(force=force, grace_seconds=grace_seconds))

    def parameters(
        self,
        *patterns: str,
        version: int = 0,
        newer_than: int = 0,
        wait: float | None = None,
        on_bytes: OnBytes | None = None,
    ) -> ParameterSet | None:
        """Its parameters as arrays; None if nothing is newer than ``newer_than``."""
        return self._loop.run(
            self._handle.parameters(
                *patterns,
                version=version,
                newer_than=newer_than,
                wait=wait,
                on_bytes=on_bytes,
            )
        )

    def download(self, path: str | os.PathLike[str], *patterns: str) -> ParameterSet:
        """Write its newest parameters as a safetensors file."""
        return self._loop.run(self._handle.download(path, *patterns))
