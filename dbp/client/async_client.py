"""The client for asyncio; ``dbp.client.client`` is its plain face, not a second writing."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self, TypeVar, final

import grpc

from dbp.client.download import OnBytes, receive
from dbp.client.parameter_set import ParameterSet, parameter_set
from dbp.client.streams import JobUpdate, logs, watch
from dbp.errors import InvalidInput, NotFound, WrongState
from dbp.job.load import decode, encode, load_file
from dbp.job.spec import JobSpec
from dbp.job.state import Job, State
from dbp.job.validate import resolve
from dbp.rpc.channel import DEFAULT_ADDRESS, connect
from dbp.rpc.convert import job_from_proto, job_name, state_to_proto
from dbp.rpc.spec_convert import spec_to_proto
from dbp.rpc.status import error_from_rpc
from dbp.v1 import job_service_pb2 as jobs_pb
from dbp.v1 import parameter_service_pb2 as parameters_pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub
from dbp.v1.parameter_service_pb2_grpc import ParameterServiceStub

T = TypeVar("T")

UNARY_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 60.0
PAGE_SIZE: Final = 200

Spec = str | os.PathLike[str] | Mapping[str, Any] | JobSpec


@final
class AsyncClient:
    """A connection to one service; ``async with`` closes it.

    Errors are those of ``dbp.errors``. Streams that break are opened again for up to
    ``patience`` seconds: a service that restarts is no reason to stop.
    """

    def __init__(
        self, address: str = DEFAULT_ADDRESS, *, patience: float = PATIENCE_SECONDS
    ) -> None:
        """Nothing is sent yet; raises InvalidInput for an address that is none."""
        self.address = address
        self.patience = patience
        self._channel = connect(address)
        self._jobs = JobServiceStub(self._channel)
        self._parameters = ParameterServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connection."""
        await self._channel.close()

    async def submit(
        self,
        spec: Spec,
        *,
        workers: int = 1,
        request_id: str | None = None,
        validate_only: bool = False,
    ) -> AsyncJobHandle:
        """Ask for a job: a spec file, a document or a JobSpec. It is durable on return.

        Everything that can be judged here is, before the service is asked. The request id
        (a fresh one, if none is given) makes a retry safe.
        """
        request = jobs_pb.CreateJobRequest(
            spec=spec_to_proto(encode(_checked(spec))),
            workers=workers,
            request_id=request_id or str(uuid.uuid4()),
            validate_only=validate_only,
        )
        answer = await self._unary(self._jobs.CreateJob, request)
        job = job_from_proto(answer.job)
        return AsyncJobHandle(self, job.id)

    async def job(self, job_id: str) -> AsyncJobHandle:
        """The job with this id, resource name, or unique beginning of an id; NotFound."""
        wanted = job_id.removeprefix("jobs/")
        try:
            await self.get(wanted)
        except NotFound:
            found = [job.id async for job in self.jobs() if job.id.startswith(wanted)]
            if len(found) > 1:
                shown = ", ".join(found[:5])
                raise InvalidInput(f"{wanted!r} begins several jobs: {shown}") from None
            if not found or not wanted:
                raise
            wanted = found[0]
        return AsyncJobHandle(self, wanted)

    async def get(self, job_id: str) -> Job:
        """The job as it stands; NotFound."""
        request = jobs_pb.GetJobRequest(name=job_name(job_id))
        return job_from_proto((await self._unary(self._jobs.GetJob, request)).job)

    async def jobs(self, *states: State) -> AsyncIterator[Job]:
        """Jobs, newest first; only those in the given states, if any are given."""
        request = jobs_pb.ListJobsRequest(
            states=[state_to_proto(state) for state in states], page_size=PAGE_SIZE
        )
        while True:
            page = await self._unary(self._jobs.ListJobs, request)
            for job in page.jobs:
                yield job_from_proto(job)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def cancel(
        self, job_id: str, *, force: bool = False, grace_seconds: float | None = None
    ) -> Job:
        """Ask a job to stop; returns it as it stands then."""
        request = jobs_pb.CancelJobRequest(name=job_name(job_id), force=force)
        if grace_seconds is not None:
            request.grace_period.FromMilliseconds(round(grace_seconds * 1000))
        return job_from_proto((await self._unary(self._jobs.CancelJob, request)).job)

    def watch(self, job_id: str = "") -> AsyncIterator[JobUpdate]:
        """Updates of one job until it has ended, or of all jobs for ever."""
        name = job_name(job_id) if job_id else ""
        return watch(lambda: self._jobs, name, patience=self.patience)

    def logs(
        self, job_id: str, *, follow: bool = False, attempt: int = 0
    ) -> AsyncIterator[str]:
        """Lines of an attempt's log (0: the newest), as they come if ``follow``."""
        request = jobs_pb.StreamLogsRequest(
            name=job_name(job_id), follow=follow, attempt=attempt
        )
        return logs(lambda: self._jobs, request, patience=self.patience)

    async def parameters(
        self,
        job_id: str,
        patterns: Iterable[str] = (),
        *,
        version: int = 0,
        newer_than: int = 0,
        wait: float | None = None,
        on_bytes: OnBytes | None = None,
    ) -> ParameterSet | None:
        """Parameters of a version (0: the newest); None if nothing is newer.

        WrongState: nothing is published yet; with ``wait`` (seconds) that is waited for.
        """
        request = parameters_pb.StreamParametersRequest(
            selector=parameters_pb.ParameterSelector(
                job=job_name(job_id), version=version, tensors=list(patterns)
            ),
            newer_than=newer_than,
        )
        if wait is not None:
            request.wait.FromMilliseconds(round(wait * 1000))
        call = self._parameters.StreamParameters(request)
        try:
            found, content = await receive(call, on_bytes)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        return None if content is None else parameter_set(found, content)

    async def _unary(self, method: Any, request: Any) -> Any:
        try:
            return await method(request, timeout=UNARY_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error


@final
class AsyncJobHandle:
    """One job of a service."""

    def __init__(self, client: AsyncClient, job_id: str) -> None:
        self._client = client
        self.id = job_id

    async def get(self) -> Job:
        """The job as it stands."""
        return await self._client.get(self.id)

    async def wait(self) -> Job:
        """Return the job once it has ended."""
        async for _ in self.watch():
            pass
        return await self.get()

    def watch(self) -> AsyncIterator[JobUpdate]:
        """Every change and the newest progress, until the job has ended."""
        return self._client.watch(self.id)

    def logs(self, *, follow: bool = False, attempt: int = 0) -> AsyncIterator[str]:
        """Lines of its log."""
        return self._client.logs(self.id, follow=follow, attempt=attempt)

    async def cancel(self, *, force: bool = False, grace_seconds: float | None = None) -> Job:
        """Ask it to stop."""
        return await self._client.cancel(self.id, force=force, grace_seconds=grace_seconds)

    async def parameters(
        self,
        *patterns: str,
        version: int = 0,
        newer_than: int = 0,
        wait: float | None = None,
        on_bytes: OnBytes | None = None,
    ) -> ParameterSet | None:
        """Its parameters, whole or by name patterns ("0.*"); see AsyncClient.parameters."""
        return await self._client.parameters(
            self.id,
            patterns,
            version=version,
            newer_than=newer_than,
            wait=wait,
            on_bytes=on_bytes,
        )

    async def download(self, path: str | os.PathLike[str], *patterns: str) -> ParameterSet:
        """Write its newest parameters as a safetensors file; the file appears whole."""
        found = await self.parameters(*patterns)
        if found is None:
            raise WrongState(f"job {self.id}: no parameters are published yet")
        write_whole(Path(path), found.content)
        return found


def write_whole(path: Path, content: memoryview) -> None:
    """Write a file that is never seen in part."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _checked(spec: Spec) -> JobSpec:
    if isinstance(spec, Mapping):
        spec = decode(spec)
    elif not isinstance(spec, JobSpec):
        spec = load_file(spec)
    resolve(spec)
    return spec
