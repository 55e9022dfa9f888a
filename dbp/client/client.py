"""The client for plain Python: the async core on a thread of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Self, final

import numpy.typing as npt

from dbp.client.async_client import AsyncClient, AsyncJobHandle, Spec
from dbp.client.download import OnBytes
from dbp.client.inference import Prediction
from dbp.client.loop_thread import LoopThread
from dbp.client.parameter_set import ParameterSet
from dbp.client.streams import JobUpdate
from dbp.job.state import Job, State
from dbp.rpc.channel import DEFAULT_ADDRESS


@final
class Client:
    """A connection to one service; ``with`` closes it. May be used from several threads.

    See ``AsyncClient`` for what the methods do; errors are those of ``dbp.errors``. Closing
    it ends what other threads still wait for: Unavailable.
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, **options: Any) -> None:
        """Nothing is sent yet; ``options`` as for AsyncClient. InvalidInput."""
        self._loop = LoopThread()

        async def make() -> AsyncClient:
            return AsyncClient(address, **options)

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

    @property
    def address(self) -> str:
        """HOST:PORT of the service."""
        return self._client.address

    def close(self) -> None:
        """Let go of the connection; may be repeated."""
        self._loop.close(self._client.close())

    def submit(
        self,
        spec: Spec,
        *,
        workers: int = 1,
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> JobHandle:
        """Ask for a job: a spec file, a document or a JobSpec. It is durable on return."""
        work = self._client.submit(
            spec, workers=workers, request_id=request_id, validate_only=validate_only
        )
        return JobHandle(self._loop, self._loop.run(work))

    def job(self, job_id: str) -> JobHandle:
        """The job with this id, or whose id alone begins so; NotFound."""
        return JobHandle(self._loop, self._loop.run(self._client.job(job_id)))

    def jobs(self, *states: State) -> Iterator[Job]:
        """Jobs, newest first; only those in the given states, if any are given."""
        return self._loop.iterate(self._client.jobs(*states))

    def watch(self) -> Iterator[JobUpdate]:
        """Updates of all jobs, for ever."""
        return self._loop.iterate(self._client.watch())


@final
class JobHandle:
    """One job of a service; see ``AsyncJobHandle`` for what the methods do."""

    def __init__(self, loop: LoopThread, handle: AsyncJobHandle) -> None:
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
        """Its parameters as arrays; None if nothing is newer than ``newer_than``.

        ``on_bytes`` is called on the client's own thread.
        """
        work = self._handle.parameters(
            *patterns, version=version, newer_than=newer_than, wait=wait, on_bytes=on_bytes
        )
        return self._loop.run(work)

    def predict(
        self, inputs: npt.ArrayLike, *, version: int = 0, label: str = ""
    ) -> Prediction:
        """Outputs of its model for inputs (n, *input_shape), all by one version."""
        return self._loop.run(self._handle.predict(inputs, version=version, label=label))

    def download(
        self,
        path: str | os.PathLike[str],
        *patterns: str,
        version: int = 0,
        on_bytes: OnBytes | None = None,
    ) -> ParameterSet:
        """Write its parameters as a safetensors file; the file appears whole."""
        work = self._handle.download(path, *patterns, version=version, on_bytes=on_bytes)
        return self._loop.run(work)
