"""Streams that survive service restarts: reopened where they stopped.

A stream has ended only when its end message says so; otherwise it was cut.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar, final

import grpc
from google.protobuf.message import Message

from dbp.client.transport.calls import FAILURES, listen, translated
from dbp.client.transport.connection import Connection
from dbp.client.transport.patience import Patience
from dbp.errors import ClientClosed, DeadlineExceeded, OutOfRange, Unavailable
from dbp.job.state import Job, LabelMove, ProgressReport
from dbp.printable import printable_log_line
from dbp.rpc.bearer import NoListener
from dbp.rpc.enums import event_kind_from_proto
from dbp.rpc.forking import is_forked
from dbp.rpc.job_convert import job_from_proto, progress_from_proto
from dbp.rpc.scalar_convert import id_from_name
from dbp.rpc.version_convert import label_from_proto
from dbp.v1 import job_service_pb2 as pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub
from dbp.v1.stream_pb2 import STREAM_END_REASON_END_OF_LOG, STREAM_END_REASON_JOB_ENDED

M = TypeVar("M")

_ENDS_OF_LOGS: Final = (STREAM_END_REASON_JOB_ENDED, STREAM_END_REASON_END_OF_LOG)


@dataclass(frozen=True)
class JobUpdate:
    """An update of a job: its state after a change, or its newest progress.

    ``kind``: snapshot, progress, or the change (an ``EventKind``). ``skipped``: progress
    reports that were left out before this one. ``label``: the move of a label. ``version``:
    number of the version that was pinned or unpinned. ``gap``: a snapshot before which
    changes were not sent, since the service no longer stores them.
    """

    job_id: str
    kind: str
    job: Job | None = None
    progress: ProgressReport | None = None
    skipped: int = 0
    label: LabelMove | None = None
    version: int = 0
    gap: bool = False


@final
class _Missed:
    """Marks the first snapshot of each job after changes that were not sent.

    Later snapshots of a job only show its conditions.
    """

    def __init__(self) -> None:
        self._noted = False
        self._seen: set[str] = set()  # jobs whose snapshots are marked

    def note(self) -> None:
        """Mark the snapshots with which the next stream begins."""
        self._noted = True

    def begin_stream(self) -> None:
        """A stream that was cut among its first snapshots sends all of them again."""
        self._seen.clear()

    def marked(self, update: JobUpdate) -> JobUpdate:
        """Return the update, with its gap."""
        if update.kind != "snapshot" or update.job_id in self._seen:
            self._noted = False
        if not self._noted:
            return update
        self._seen.add(update.job_id)
        return replace(update, gap=True)


async def watch(
    connection: Connection, stub: JobServiceStub, name: str, timeout: float | None
) -> AsyncGenerator[JobUpdate, None]:
    """Yield updates of a job (all jobs for an empty name) until the stream's end message.

    Where the service no longer stores the changes after a token, new snapshots follow.
    """
    token, missed, waiting = "", _Missed(), Patience(connection.patience)
    while True:
        missed.begin_stream()
        request = pb.WatchJobsRequest(name=name, resume_token=token)
        stream: Stream[pb.WatchJobsResponse] = Stream(
            connection, stub.WatchJobs, request, timeout
        )
        try:
            with stream as messages:
                async for message in messages:
                    waiting.alive()
                    token = message.resume_token
                    if message.WhichOneof("event") == "end":
                        if message.end.reason == STREAM_END_REASON_JOB_ENDED:
                            return
                        break
                    update = _update(message)
                    if update is not None:
                        yield missed.marked(update)
        except OutOfRange:
            if not token:
                raise
            token = ""
            missed.note()
        else:
            await waiting.again(stream.cut)


async def logs(
    connection: Connection,
    stub: JobServiceStub,
    request: pb.StreamLogsRequest,
    timeout: float | None,
) -> AsyncGenerator[str, None]:
    """Yield lines of a log until its end message; none twice, none left out.

    Sets the number of the attempt in the request: a new stream continues the same log.
    """
    waiting = Patience(connection.patience)
    while True:
        stream: Stream[pb.StreamLogsResponse] = Stream(
            connection, stub.StreamLogs, request, timeout
        )
        with stream as messages:
            async for message in messages:
                waiting.alive()
                request.offset = message.next_offset
                request.attempt = message.attempt or request.attempt
                for line in message.lines:
                    yield printable_log_line(line)
                if message.HasField("end"):
                    if message.end.reason in _ENDS_OF_LOGS:
                        return
                    break  # the service restarts, or is newer and gives an unknown reason
        await waiting.again(stream.cut)


class Stream(Generic[M]):
    """A call that is cancelled at the end of its block.

    Where no service listens when it begins, it has no messages: it was cut.
    """

    def __init__(
        self,
        connection: Connection,
        method: Callable[[Message], grpc.aio.UnaryStreamCall[Message, M]],
        request: Message,
        timeout: float | None,
    ) -> None:
        self._connection = connection
        self._method = method
        self._request = request
        self._silence = connection.silence(timeout)
        self._call: grpc.aio.UnaryStreamCall[Message, M] | None = None
        self.cut: Unavailable = Unavailable("the service has closed the stream")

    def __enter__(self) -> AsyncGenerator[M, None]:
        try:
            with translated():
                call = self._call = self._method(self._request)
        except NoListener as error:
            self.cut = error
            return _nothing()
        return listen(call, lambda: self._silence, self._late)

    def _late(self, limit: float) -> DeadlineExceeded:
        name = type(self._request).__name__.removesuffix("Request")
        return self._connection.late(f"{name} got no message", limit)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if self._call is not None and not is_forked():
            self._call.cancel()
        if isinstance(error, DeadlineExceeded):
            self.cut = error
            return True
        if not isinstance(error, FAILURES):
            return False
        try:
            with translated():
                raise error
        except ClientClosed:
            raise
        except Unavailable as found:
            self.cut = found
            return True


async def _nothing() -> AsyncGenerator[Any, None]:
    """Yield no message: the stream of a service that is away."""
    for message in list[Any]():
        yield message


def _update(message: pb.WatchJobsResponse) -> JobUpdate | None:
    match message.WhichOneof("event"):
        case "snapshot":
            job = job_from_proto(message.snapshot)
            return JobUpdate(job.id, "snapshot", job=job, progress=job.progress)
        case "change":
            job = job_from_proto(message.change.job)
            kind = event_kind_from_proto(message.change.kind)
            change = message.change
            return JobUpdate(
                job.id,
                kind,
                job=job,
                progress=job.progress,
                label=label_from_proto(change.label) if change.HasField("label") else None,
                version=change.version,
            )
        case "progress":
            event = message.progress
            progress = progress_from_proto(event.progress)
            job_id = id_from_name(event.job)
            return JobUpdate(job_id, "progress", progress=progress, skipped=event.skipped)
    return None
