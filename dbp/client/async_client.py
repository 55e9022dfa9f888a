"""Client for asyncio; ``dbp.client.client`` wraps it for synchronous code."""

from __future__ import annotations

import math
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Literal, NoReturn, Self, final, overload

import numpy.typing as npt

from dbp.client.arguments import credentials, seconds, switch, text, whole_number
from dbp.client.async_job import AsyncJobHandle
from dbp.client.inference import Prediction
from dbp.client.job_calls import JobCalls
from dbp.client.spec import ValidatedJob, validated_job
from dbp.client.transport.calls import not_picklable
from dbp.client.transport.connection import PATIENCE_SECONDS, TIMEOUT_SECONDS, Connection
from dbp.client.transport.streams import JobUpdate
from dbp.job.spec.given import Spec, checked_document, errors_located
from dbp.job.state import Job, State
from dbp.registry import ComponentInfo
from dbp.rpc.address import service_address
from dbp.rpc.forking import is_forked
from dbp.rpc.job_convert import job_from_proto
from dbp.rpc.limits import INT32_MAX
from dbp.rpc.scalar_convert import JOB_PREFIX
from dbp.rpc.spec_convert import spec_to_proto
from dbp.v1 import job_service_pb2 as jobs_pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub


@final
class AsyncClient:
    """A connection to one service; ``async with`` closes it.

    Errors are those of ``dbp.errors``. A call that gets no answer within ``timeout`` seconds
    raises DeadlineExceeded; every method takes a ``timeout`` of its own. Streams that break,
    or are silent for 15 seconds, are opened again for up to ``patience`` seconds where they
    stopped; an outage that lasts, and its end, are logged (logger ``dbp.client``).

    It belongs to the event loop in which it was made, and to one process: see ``Client`` for
    threads, pickling and forks.
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
        """Prepare a connection; nothing is sent yet.

        Args:
            address: HOST:PORT, unix:PATH, or a name of the profile file. None: $DBP_SERVICE,
                else the socket of the service with the state folder $DBP_STATE or the user's.
            timeout: Seconds within which the service answers a call, beyond the time for which
                the call asks it to wait. Predictions may take six times as long.
            patience: Seconds for which a stream that broke is opened again.
            token: Who the caller is. None means that in the file $DBP_TOKEN_FILE, or, on this
                machine, that of the service's owner, if he is this user. Without encryption it
                is sent only to a port of this machine at which this user or root listens.
            ca: PEM file of the service's CA or certificate, for TLS; "system": the CAs of this
                system. None means $DBP_CA_FILE; no TLS where that is unset.
            cert: PEM file of the caller's certificate, replaces a token; or $DBP_CERT_FILE.
            key: PEM file of its key, or $DBP_KEY_FILE.

        Raises InvalidInput for a malformed address, WrongEventLoop outside an event loop, and
        ClientForked in a process that was forked after a client was made.
        """
        self.address: str = service_address(
            None if address is None else text("address", address)
        )
        self.patience: float = seconds("patience", patience, maximum=math.inf)
        self._connection = Connection(
            self.address,
            timeout=timeout,
            patience=patience,
            credentials=credentials(self.address, token, ca, cert, key),
        )
        self._jobs = JobServiceStub(self._connection.channel)
        self._calls = JobCalls(self._connection)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __reduce__(self) -> NoReturn:
        raise not_picklable(self)

    async def close(self) -> None:
        """Close the connection; in a process forked since it stays the parent's."""
        if not is_forked():
            await self._connection.channel.close()

    @overload
    async def submit(
        self,
        spec: Spec,
        *,
        workers: int = 1,
        request_id: str | None = None,
        validate_only: Literal[False] = False,
        timeout: float | None = None,
    ) -> AsyncJobHandle: ...

    @overload
    async def submit(
        self,
        spec: Spec,
        *,
        workers: int = 1,
        request_id: str | None = None,
        validate_only: Literal[True],
        timeout: float | None = None,
    ) -> ValidatedJob: ...

    @overload
    async def submit(
        self,
        spec: Spec,
        *,
        workers: int = 1,
        request_id: str | None = None,
        validate_only: bool,
        timeout: float | None = None,
    ) -> AsyncJobHandle | ValidatedJob: ...

    async def submit(
        self,
        spec: Spec,
        *,
        workers: int = 1,
        request_id: str | None = None,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> AsyncJobHandle | ValidatedJob:
        """Submit a job: a spec file, a document or a JobSpec. It is durable on return.

        Everything that can be judged here is, before the service is asked; file names are
        relative to the spec file's folder, or else to the current one.

        Args:
            spec: Model, data and training, as in a job file.
            workers: MPI processes.
            request_id: Makes a retry safe: the same id and spec give the same job. A new one,
                if none is given.
            validate_only: Return the resolved spec and the notes on it as a ValidatedJob; the
                service checks the job and does not store it.
            timeout: Seconds to the answer; the client's by default.
        """
        whole_number("workers", workers, minimum=1, maximum=INT32_MAX)
        if request_id is not None:
            text("request_id", request_id)
        document = checked_document(spec)
        with errors_located(spec):
            request = jobs_pb.CreateJobRequest(
                spec=spec_to_proto(document),
                workers=workers,
                request_id=request_id or str(uuid.uuid4()),
                validate_only=switch("validate_only", validate_only),
            )
            answer = await self._connection.call(self._jobs.CreateJob, request, timeout)
        if validate_only:
            return validated_job(answer.job)
        job = job_from_proto(answer.job)
        return AsyncJobHandle(self._calls, job.id, job.notes)

    async def job(self, job_id: str, *, timeout: float | None = None) -> AsyncJobHandle:
        """Return the job with this id (or resource name, ``jobs/ID``).

        Raises NotFound; ``jobs`` lists the ids of all jobs.
        """
        wanted = text("job_id", job_id).removeprefix(JOB_PREFIX)
        job = await self.get(wanted, timeout=timeout)
        return AsyncJobHandle(self._calls, job.id)

    async def get(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Return the job as it is now; NotFound."""
        return await self._calls.get(job_id, timeout=timeout)

    def jobs(self, *states: State, timeout: float | None = None) -> AsyncGenerator[Job, None]:
        """Yield jobs, newest first; only those in the given states, if any are given.

        ``timeout`` applies to each page.
        """
        return self._calls.jobs(*states, timeout=timeout)

    async def cancel(
        self,
        job_id: str,
        *,
        force: bool = False,
        grace_seconds: float | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Ask a job to stop after its current step; return the job.

        Its processes are killed at once with ``force``, else if it has not stopped
        ``grace_seconds`` (10 by default) after the call.
        """
        return await self._calls.cancel(
            job_id, force=force, grace_seconds=grace_seconds, timeout=timeout
        )

    async def pause(
        self,
        job_id: str,
        *,
        grace_seconds: float | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Ask a job to write a checkpoint after its current step and to stop; return the job.

        Its slots become free. It waits in PAUSED for ``resume``, and ends with the bits of a
        run that was not paused. Its processes are killed if it has not stopped
        ``grace_seconds`` (60 by default) after the call: it continues from an older checkpoint
        then. WrongState: it has ended, is being cancelled, or was started by hand.
        """
        return await self._calls.pause(job_id, grace_seconds=grace_seconds, timeout=timeout)

    async def resume(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Queue a paused job again; return the job. WrongState: it is not PAUSED."""
        return await self._calls.resume(job_id, timeout=timeout)

    async def retry(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Queue a job again that has failed or was cancelled; return the job.

        It continues from its newest checkpoint. WrongState: it has none, or succeeded.
        """
        return await self._calls.retry(job_id, timeout=timeout)

    async def delete(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Delete an ended job, its log, checkpoints and versions; return it as it was.

        Pinned and labelled versions are deleted, too. WrongState: the job has not ended.
        """
        return await self._calls.delete(job_id, timeout=timeout)

    def watch(
        self, job_id: str = "", *, timeout: float | None = None
    ) -> AsyncGenerator[JobUpdate, None]:
        """Yield updates of one job until it has ended, or of all jobs forever.

        The service stores the newest 50,000 changes. After an outage with more, snapshots with
        ``gap`` set follow instead of the changes that are missing.

        ``timeout``: seconds of silence after which the stream is opened again; 15 by default.
        The service sends a heartbeat every 5 seconds.
        """
        return self._calls.watch(job_id, timeout=timeout)

    def logs(
        self, job_id: str, *, follow: bool = False, attempt: int = 0, rank: int | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[str, None]:  # fmt: skip
        """Yield lines of an attempt's log (0: the newest); with ``follow``, as they arrive.

        ``rank``: only the output of this rank. ``timeout`` as in ``watch``.
        """
        return self._calls.logs(
            job_id, follow=follow, attempt=attempt, rank=rank, timeout=timeout
        )

    async def components(self, *, timeout: float | None = None) -> list[ComponentInfo]:
        """Return the kinds installed with the service, plug-ins included, and their options."""
        return await self._calls.components(timeout=timeout)

    async def predict(
        self,
        job_id: str,
        inputs: npt.ArrayLike,
        *,
        version: int = 0,
        label: str = "",
        timeout: float | None = None,
    ) -> Prediction:
        """Return the outputs of a version (0: the newest) for inputs (n, *input_shape).

        Columns of a table with names (a DataFrame of pandas or polars, a Table of pyarrow) are
        matched by name to those that the model was trained on; its target and weight may be
        among them. Arrays are matched by position.

        The model, its scaling and its class names come with the parameters. One version answers
        all rows. ``timeout`` applies to each batch; the default is six times the client's,
        since the service may have to load the model first. InvalidInput, NotFound, OutOfRange;
        WrongState: nothing is published yet.
        """
        return await self._calls.predict(
            job_id, inputs, version=version, label=label, timeout=timeout
        )
