"""The calls about a job that a client and its job handles share."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final, final

import numpy.typing as npt

from dbp.client.arguments import seconds, switch, text, whole_number
from dbp.client.arguments import state as checked_state
from dbp.client.async_parameters import AsyncParameters
from dbp.client.inference import Prediction, predict
from dbp.client.inputs import column_names, in_order
from dbp.client.metrics import JobMetrics, Steps, Time, metrics_of, metrics_request
from dbp.client.transport.connection import Connection
from dbp.client.transport.streams import JobUpdate, logs, watch
from dbp.column_names import columns_of
from dbp.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from dbp.job.state import Job, State
from dbp.quantities import duration_text
from dbp.registry import ComponentInfo
from dbp.rpc.component_convert import component_from_proto
from dbp.rpc.job_convert import job_from_proto, state_to_proto
from dbp.rpc.limits import INT32_MAX
from dbp.rpc.scalar_convert import job_name
from dbp.v1 import job_service_pb2 as jobs_pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub

PAGE_SIZE: Final = 50


@final
class JobCalls:
    """Calls about jobs over one connection; ``AsyncClient`` describes them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._jobs = JobServiceStub(connection.channel)
        self._inference = GRPCInferenceServiceStub(connection.channel)

    async def get(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Return the job as it is now."""
        request = jobs_pb.GetJobRequest(name=job_name(text("job_id", job_id)))
        answer = await self._connection.call(self._jobs.GetJob, request, timeout)
        return job_from_proto(answer.job)

    def jobs(self, *states: State, timeout: float | None = None) -> AsyncGenerator[Job, None]:
        """Yield jobs, newest first; only those in the given states, if any are given."""
        wanted = [state_to_proto(checked_state(state)) for state in states]
        request = jobs_pb.ListJobsRequest(states=wanted, page_size=PAGE_SIZE)
        return self._pages(request, self._connection.limit(timeout))

    async def _pages(
        self, request: jobs_pb.ListJobsRequest, timeout: float
    ) -> AsyncGenerator[Job, None]:
        while True:
            page = await self._connection.call(self._jobs.ListJobs, request, timeout)
            for job in page.jobs:
                yield job_from_proto(job)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def cancel(
        self,
        job_id: str,
        *,
        force: bool = False,
        grace_seconds: float | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Ask a job to stop; return the job."""
        request = jobs_pb.CancelJobRequest(
            name=job_name(text("job_id", job_id)), force=switch("force", force)
        )
        if grace_seconds is not None:
            grace = seconds("grace_seconds", grace_seconds)
            request.grace_period.FromMilliseconds(round(grace * 1000))
        answer = await self._connection.call(self._jobs.CancelJob, request, timeout)
        return job_from_proto(answer.job)

    async def pause(
        self,
        job_id: str,
        *,
        grace_seconds: float | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Ask a job to write a checkpoint and to stop; return the job."""
        request = jobs_pb.PauseJobRequest(name=job_name(text("job_id", job_id)))
        if grace_seconds is not None:
            grace = seconds("grace_seconds", grace_seconds)
            request.grace_period.FromMilliseconds(round(grace * 1000))
        answer = await self._connection.call(self._jobs.PauseJob, request, timeout)
        return job_from_proto(answer.job)

    async def resume(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Queue a paused job again; return the job."""
        request = jobs_pb.ResumeJobRequest(name=job_name(text("job_id", job_id)))
        answer = await self._connection.call(self._jobs.ResumeJob, request, timeout)
        return job_from_proto(answer.job)

    async def retry(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Queue a failed or cancelled job again; return the job."""
        request = jobs_pb.RetryJobRequest(name=job_name(text("job_id", job_id)))
        answer = await self._connection.call(self._jobs.RetryJob, request, timeout)
        return job_from_proto(answer.job)

    async def delete(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Delete an ended job; return the job as it was."""
        request = jobs_pb.DeleteJobRequest(
            name=job_name(text("job_id", job_id)), request_id=str(uuid.uuid4())
        )
        answer = await self._connection.call(self._jobs.DeleteJob, request, timeout)
        return job_from_proto(answer.job)

    async def wait(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Return a job once it has ended; TimeoutError after ``timeout`` seconds."""
        limit = None if timeout is None else seconds("timeout", timeout)
        try:
            async with asyncio.timeout(limit):
                return await self._ended(job_id)
        except TimeoutError:
            raise TimeoutError(
                f"job {job_id} has not ended within {duration_text(limit or 0)}"
            ) from None

    async def _ended(self, job_id: str) -> Job:
        job: Job | None = None
        async for update in self.watch(job_id):
            job = update.job or job
        return job if job is not None and job.state.terminal else await self.get(job_id)

    def watch(
        self, job_id: str = "", *, timeout: float | None = None
    ) -> AsyncGenerator[JobUpdate, None]:
        """Yield updates of one job, or of all."""
        name = job_name(text("job_id", job_id)) if job_id != "" else ""
        return watch(self._connection, self._jobs, name, self._connection.silence(timeout))

    def logs(
        self,
        job_id: str,
        *,
        follow: bool = False,
        attempt: int = 0,
        rank: int | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[str, None]:
        """Yield lines of an attempt's log; of the newest and all later ones if followed."""
        whole_number("attempt", attempt, maximum=INT32_MAX)
        if rank is not None:
            whole_number("rank", rank, maximum=INT32_MAX)
        request = jobs_pb.StreamLogsRequest(
            name=job_name(text("job_id", job_id)),
            follow=switch("follow", follow),
            attempt=attempt,
            rank=rank,
        )
        if follow and not attempt:
            return self._followed(job_id, request, self._connection.silence(timeout))
        return logs(self._connection, self._jobs, request, self._connection.silence(timeout))

    async def _followed(
        self, job_id: str, request: jobs_pb.StreamLogsRequest, silence: float
    ) -> AsyncGenerator[str, None]:
        """Yield the log of the newest attempt, then those of the attempts that follow."""
        while True:
            lines = logs(self._connection, self._jobs, request, silence)
            async with aclosing(lines):
                async for line in lines:
                    yield line
            shown = request.attempt
            if not shown or not await self._begins_again(job_id, shown):
                return
            request.attempt, request.offset = shown + 1, 0

    async def _begins_again(self, job_id: str, attempt: int) -> bool:
        """Wait until a job has ended or begun an attempt after this one; return whether."""
        updates = self.watch(job_id)
        async with aclosing(updates):
            async for update in updates:
                job = update.job
                if job is not None and (job.attempt > attempt or job.state.terminal):
                    return job.attempt > attempt
        return (await self.get(job_id)).attempt > attempt

    async def metrics(
        self,
        job_id: str,
        names: Sequence[str] | str | None,
        steps: Steps | None,
        since: Time | None,
        until: Time | None,
        points: int,
        timeout: float | None,
    ) -> JobMetrics:
        """Return the metrics history of a job."""
        request = metrics_request(job_id, names, steps, since, until, points)
        answer = await self._connection.call(self._jobs.QueryMetrics, request, timeout)
        return metrics_of(job_id, answer)

    async def components(self, *, timeout: float | None = None) -> list[ComponentInfo]:
        """Return the kinds installed with the service."""
        request = jobs_pb.ListComponentsRequest()
        found: list[ComponentInfo] = []
        while True:
            page = await self._connection.call(self._jobs.ListComponents, request, timeout)
            found += map(component_from_proto, page.components)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def predict(
        self,
        job_id: str,
        inputs: npt.ArrayLike,
        *,
        version: int = 0,
        label: str = "",
        timeout: float | None = None,
    ) -> Prediction:
        """Return the outputs of a version for inputs."""
        if names := column_names(inputs):
            metadata = await self.parameters_of(job_id).metadata(version, label, timeout)
            inputs = in_order(inputs, names, columns_of(metadata, job_id))
        limit = 6 * self._connection.timeout if timeout is None else timeout
        call = partial(self._connection.call, timeout=limit)
        return await predict(
            call, self._inference, job_id, inputs, version=version, label=label
        )

    def parameters_of(self, job_id: str) -> AsyncParameters:
        """Return the parameter calls of a job; sends nothing."""
        return AsyncParameters(self._connection, job_id)
