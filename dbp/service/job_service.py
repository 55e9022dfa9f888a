"""JobService: each method converts the request, calls the manager, converts the answer."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Final, TypeAlias, final

import grpc
from google.protobuf.message import Message

from dbp.access.principal import CALLER
from dbp.errors import InvalidInput
from dbp.jobs.manager import JobManager
from dbp.jobs.paging import page_size, unknown_token
from dbp.jobs.watch_items import (
    Change,
    End,
    Heartbeat,
    JobStatus,
    LogChunk,
    ProgressItem,
    WatchItem,
)
from dbp.printable import printable_log_line
from dbp.registry import catalogue
from dbp.rpc.component_convert import component_to_proto, group_from_proto
from dbp.rpc.enums import event_kind_to_proto, stream_end_to_proto
from dbp.rpc.job_convert import progress_to_proto, state_from_proto
from dbp.rpc.scalar_convert import id_from_name, job_name, time_to_proto
from dbp.rpc.spec_convert import refuse_unknown
from dbp.rpc.version_convert import label_to_proto
from dbp.service.job_access import JobAccess, visible
from dbp.service.message_limit import AnswerPage, job_answer
from dbp.service.metric_queries import MetricQueries
from dbp.service.spec_reading import document_of
from dbp.v1 import component_pb2, job_pb2, job_service_pb2_grpc, stream_pb2
from dbp.v1 import job_service_pb2 as pb

Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"

RESUME_MARK: Final = "e"
MAX_REQUEST_ID: Final = 128
COMPONENTS_PAGE: Final = 200
# Longest silence of a watch while only jobs change that the caller may not see.
HIDDEN_SECONDS: Final = 5.0


@final
class JobService(job_service_pb2_grpc.JobServiceServicer):
    """gRPC methods over the job manager."""

    def __init__(self, manager: JobManager, access: JobAccess) -> None:
        self._manager = manager
        self._access = access
        self._metrics = MetricQueries(manager, access)

    async def CreateJob(
        self, request: pb.CreateJobRequest, context: Context
    ) -> pb.CreateJobResponse:
        document = await document_of(request.spec)
        refuse_unknown(request, checked="spec")
        job = await self._manager.create(
            document,
            workers=request.workers if request.HasField("workers") else 1,
            request_id=_request_id(request.request_id),
            owner=CALLER.get().owner,
            validate_only=request.validate_only,
        )
        return pb.CreateJobResponse(job=job_answer(job))

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        job = await self._manager.get(await self._access.readable(request.name))
        return pb.GetJobResponse(job=job_answer(job))

    async def ListJobs(
        self, request: pb.ListJobsRequest, context: Context
    ) -> pb.ListJobsResponse:
        states = [state_from_proto(state) for state in request.states if state]
        if len(states) < len(request.states):
            states = []  # unspecified means any
        page: AnswerPage[job_pb2.Job] = AnswerPage()
        _, token = await self._manager.list(
            states,
            request.page_size,
            request.page_token,
            lambda job: page.add(job_answer(job)),
            visible,
        )
        return pb.ListJobsResponse(jobs=page.messages, next_page_token=token)

    async def CancelJob(
        self, request: pb.CancelJobRequest, context: Context
    ) -> pb.CancelJobResponse:
        job_id = await self._access.changeable(request.name)
        job = await self._manager.lifecycle.cancel(
            job_id, grace_seconds=_grace(request), force=request.force
        )
        return pb.CancelJobResponse(job=job_answer(job))

    async def PauseJob(
        self, request: pb.PauseJobRequest, context: Context
    ) -> pb.PauseJobResponse:
        job_id = await self._access.changeable(request.name)
        job = await self._manager.lifecycle.pause(job_id, grace_seconds=_grace(request))
        return pb.PauseJobResponse(job=job_answer(job))

    async def ResumeJob(
        self, request: pb.ResumeJobRequest, context: Context
    ) -> pb.ResumeJobResponse:
        job = await self._manager.lifecycle.resume(await self._access.changeable(request.name))
        return pb.ResumeJobResponse(job=job_answer(job))

    async def RetryJob(
        self, request: pb.RetryJobRequest, context: Context
    ) -> pb.RetryJobResponse:
        job = await self._manager.lifecycle.retry(await self._access.changeable(request.name))
        return pb.RetryJobResponse(job=job_answer(job))

    async def DeleteJob(
        self, request: pb.DeleteJobRequest, context: Context
    ) -> pb.DeleteJobResponse:
        job_id = await self._access.deletable(request.name)
        request_id = _request_id(request.request_id)
        job = await self._manager.lifecycle.delete(job_id, request_id=request_id)
        return pb.DeleteJobResponse(job=job_answer(job))

    async def WatchJobs(
        self, request: pb.WatchJobsRequest, context: Context
    ) -> AsyncIterator[pb.WatchJobsResponse]:
        job_id = id_from_name(request.name) if request.name else None
        after = _sequence(request.resume_token) if request.resume_token else None
        if job_id is not None:
            check = self._access.resumable if after else self._access.readable
            await check(request.name)
        sent = time.monotonic()
        async for item in self._manager.watch(job_id, after):
            now = time.monotonic()
            if await self._shown(item):
                yield _watch_item(item)
            elif now - sent >= HIDDEN_SECONDS:
                yield _watch_item(Heartbeat(item.resume))
            else:
                continue
            sent = now

    async def _shown(self, item: WatchItem) -> bool:
        """Return whether the caller may see the job of an item; others have none."""
        match item:
            case JobStatus() | Change():
                return visible(item.job)
            case ProgressItem():
                return await self._access.sees(item.job_id)
        return True

    async def StreamLogs(
        self, request: pb.StreamLogsRequest, context: Context
    ) -> AsyncIterator[pb.StreamLogsResponse]:
        offset, job_id = request.offset, await self._access.readable(request.name)
        attempt = request.attempt or max(1, (await self._manager.get(job_id)).attempt)
        async for item in self._manager.logs(
            job_id,
            attempt=attempt,
            offset=request.offset,
            follow=request.follow,
            rank=request.rank if request.HasField("rank") else None,
        ):
            if isinstance(item, LogChunk):
                offset = item.next_offset
                yield pb.StreamLogsResponse(
                    lines=map(printable_log_line, item.lines),
                    next_offset=offset,
                    attempt=attempt,
                )
            elif isinstance(item, Heartbeat):
                yield pb.StreamLogsResponse(next_offset=offset, attempt=attempt)
            else:
                end = stream_pb2.StreamEnd(reason=stream_end_to_proto(item.reason))
                yield pb.StreamLogsResponse(next_offset=offset, end=end, attempt=attempt)

    async def QueryMetrics(
        self, request: pb.QueryMetricsRequest, context: Context
    ) -> pb.QueryMetricsResponse:
        return await self._metrics.answer(request)

    async def ListComponents(
        self, request: pb.ListComponentsRequest, context: Context
    ) -> pb.ListComponentsResponse:
        return await asyncio.to_thread(_component_page, request)


def _component_page(request: pb.ListComponentsRequest) -> pb.ListComponentsResponse:
    """Return the page that a request asks for; InvalidInput. Loads plug-ins: may block.

    A token names the last kind of the page before it, so a page is the same whenever it is
    read.
    """
    size = page_size(request.page_size, COMPONENTS_PAGE)
    wanted = group_from_proto(request.group)
    if request.group and not wanted:
        known = ", ".join(component_pb2.ComponentGroup.keys())
        raise InvalidInput(f"group: must be one of {known}, got the number {request.group}")
    found = [info for info in catalogue() if wanted in ("", info.group)]
    names = [f"{info.group}/{info.kind}" for info in found]
    if request.page_token and request.page_token not in names:
        raise unknown_token(request.page_token)
    start = names.index(request.page_token) + 1 if request.page_token else 0
    page: AnswerPage[component_pb2.ComponentKind] = AnswerPage()
    for info in found[start : start + size]:
        if not page.add(component_to_proto(info)):
            break
    end = start + len(page.messages)
    token = names[end - 1] if end < len(names) else ""
    return pb.ListComponentsResponse(components=page.messages, next_page_token=token)


def _grace(request: pb.CancelJobRequest | pb.PauseJobRequest) -> float | None:
    """Return the grace period in seconds; None if it is unset."""
    if not request.HasField("grace_period"):
        return None
    return request.grace_period.ToMilliseconds() / 1000


def _watch_item(item: WatchItem) -> pb.WatchJobsResponse:
    # A resume point of 0 means: start over, which an empty token says.
    response = pb.WatchJobsResponse(
        resume_token=f"{RESUME_MARK}{item.resume}" if item.resume else ""
    )
    match item:
        case JobStatus():
            response.snapshot.CopyFrom(job_answer(item.job))
        case Change():
            change = pb.JobEvent(
                sequence=item.sequence,
                time=time_to_proto(item.time),
                job=job_answer(item.job),
                kind=event_kind_to_proto(item.kind),
                label=None if item.label is None else label_to_proto(item.label),
                version=item.version,
            )
            response.change.CopyFrom(change)
        case ProgressItem():
            response.progress.job = job_name(item.job_id)
            response.progress.progress.CopyFrom(progress_to_proto(item.progress))
            response.progress.skipped = item.skipped
        case Heartbeat():
            response.heartbeat.SetInParent()
        case End():
            response.end.CopyFrom(stream_pb2.StreamEnd(reason=stream_end_to_proto(item.reason)))
    return response


def _sequence(token: str) -> int:
    number = token.removeprefix(RESUME_MARK)
    if not token.startswith(RESUME_MARK) or not re.fullmatch("[0-9]{1,18}", number):
        raise InvalidInput(f"resume_token: not from this service: {token[:64]!r}")
    return int(number)


def _request_id(text: str) -> str:
    if len(text) > MAX_REQUEST_ID:
        raise InvalidInput(
            f"request_id: at most {MAX_REQUEST_ID} characters, such as a UUID, got {len(text)}"
        )
    return text
