"""The parameters of one job, for asyncio: read, watch, label, publish."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

from dbp.client.arguments import callback, optional_number, seconds, switch, text
from dbp.client.arguments import path as checked_path
from dbp.client.parameter_set import ParameterSet, parameter_set
from dbp.client.transport.connection import Connection
from dbp.client.transport.download import Ask, download
from dbp.client.transport.patience import Patience, Report
from dbp.client.transport.receiver import OnBytes, Receiver
from dbp.client.transport.streams import Stream
from dbp.client.wanted import At, Wanted
from dbp.errors import LabelNotFound, Unavailable
from dbp.job.state import LabelMove, Version, VersionEntry
from dbp.rpc.job_convert import job_from_proto
from dbp.rpc.scalar_convert import job_name
from dbp.rpc.version_convert import (
    label_from_proto,
    version_entry_from_proto,
    version_from_proto,
)
from dbp.storage.atomic_file import write_file
from dbp.v1 import job_service_pb2 as jobs_pb
from dbp.v1 import parameter_service_pb2 as pb
from dbp.v1.job_service_pb2_grpc import JobServiceStub
from dbp.v1.parameter_service_pb2_grpc import ParameterServiceStub
from dbp.v1.stream_pb2 import STREAM_END_REASON_JOB_ENDED

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["ParameterService"].full_name


@dataclass(frozen=True)
class ParameterUpdate:
    """A new version, how many were skipped before it, and its tensors if asked for."""

    version: Version
    skipped: int
    parameters: ParameterSet | None = None


@final
class AsyncParameters:
    """Parameter calls of a job handle."""

    def __init__(self, connection: Connection, job_id: str) -> None:
        channel = connection.channel
        self.check_loop = channel.check_loop
        self._connection = connection
        self._stub = ParameterServiceStub(channel)
        self._jobs = JobServiceStub(channel)
        self._job = job_name(job_id)
        self._id = job_id
        self._stream: Ask = channel.unary_stream(
            f"/{_SERVICE}/StreamParameters",
            request_serializer=pb.StreamParametersRequest.SerializeToString,
            response_deserializer=None,
        )

    async def receive(
        self,
        wanted: Wanted,
        timeout: float | None,
        on_bytes: OnBytes | None = None,
        *,
        patience: float | None = None,
        report: Report | None = None,
    ) -> Receiver:
        """Return the verified download; see ``download``."""
        callback("on_bytes", on_bytes)
        given = self._connection.patience if patience is None else patience
        return await download(
            self._connection,
            self._stream,
            wanted.request(self._id),
            timeout=timeout,
            patience=Patience(given, report),
            on_bytes=on_bytes,
        )

    async def get(
        self, wanted: Wanted, timeout: float | None, on_bytes: OnBytes | None = None
    ) -> ParameterSet | None:
        """Return the requested arrays; None if nothing is newer, or nothing else."""
        found = await self.receive(wanted, timeout, on_bytes)
        if found.content is None or found.version is None:
            return None
        return parameter_set(found.version, found.content)

    async def metadata(
        self, version: int, label: str, timeout: float | None
    ) -> Mapping[str, str]:
        """Return the metadata of a version's parameter file, without its tensors."""
        chosen = Wanted(version=version, label=label).request(self._id).selector
        request = pb.GetParameterInfoRequest(selector=chosen)
        answer = await self._connection.call(self._stub.GetParameterInfo, request, timeout)
        return dict(answer.manifest.metadata)

    async def save(
        self,
        path: str | os.PathLike[str],
        wanted: Wanted,
        timeout: float | None,
        on_bytes: OnBytes | None = None,
    ) -> ParameterSet:
        """Write the requested parameters as a safetensors file, atomically; OSError."""
        checked_path("path", path)
        found = await self.get(wanted, timeout, on_bytes)
        if found is None:  # a service says so only where it was asked for something newer
            raise Unavailable(f"job {self._id}: the service sent no parameters; ask again")
        await asyncio.to_thread(write_file, Path(path), [found.content])
        return found

    async def watch(
        self, wanted: Wanted, timeout: float | None, *, data: bool
    ) -> AsyncGenerator[ParameterUpdate, None]:
        """Yield each new version until the job has ended; survives a restart of the service."""
        known, waiting = wanted.newer_than, Patience(self._connection.patience)
        while True:
            request = pb.WatchParametersRequest(
                job=self._job, label=wanted.label, newer_than=known
            )
            stream = Stream(self._connection, self._stub.WatchParameters, request, timeout)
            with stream as messages:
                async for message in messages:
                    kind = message.WhichOneof("payload")
                    if kind == "end":
                        if message.end.reason == STREAM_END_REASON_JOB_ENDED:
                            return
                        break
                    if kind != "published":
                        waiting.alive()
                        continue
                    try:
                        newer = replace(wanted, newer_than=known)
                        update = await self._update(message.published, newer, data=data)
                    except Unavailable as error:  # cut between the notice and the data
                        stream.cut = error
                        break
                    except LabelNotFound:  # removed meanwhile; it may come again
                        continue
                    waiting.alive()
                    if update is not None:
                        known = update.version.version
                        yield update
            await waiting.again(stream.cut)

    async def has_ended(self) -> bool:
        """Whether the job has ended; it publishes nothing more then."""
        request = jobs_pb.GetJobRequest(name=self._job)
        answer = await self._connection.call(self._jobs.GetJob, request, None)
        return job_from_proto(answer.job).state.terminal

    async def versions(self, timeout: float | None) -> AsyncGenerator[VersionEntry, None]:
        """Yield the versions, newest first, including those whose bytes are deleted."""
        request = pb.ListVersionsRequest(job=self._job)
        while True:
            page = await self._connection.call(self._stub.ListVersions, request, timeout)
            for entry in page.versions:
                yield version_entry_from_proto(entry)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def labels(self, timeout: float | None) -> tuple[list[LabelMove], list[LabelMove]]:
        """Return each label's version, by name, and the labels' moves, oldest first."""
        request = pb.ListLabelsRequest(job=self._job)
        answer = await self._connection.call(self._stub.ListLabels, request, timeout)
        now = [label_from_proto(label) for label in answer.labels]
        return now, [label_from_proto(move) for move in answer.history]

    async def move_label(
        self, label: str, to: At, expected_version: int | None, timeout: float | None
    ) -> LabelMove:
        """Move a label to a version (number 0: remove it), which the service looks up."""
        text("label", label)
        optional_number("expected_version", expected_version)
        request = pb.MoveLabelRequest(
            job=self._job, label=label, expected_version=expected_version
        )
        to.put_into(request)
        answer = await self._connection.call(self._stub.MoveLabel, request, timeout)
        return label_from_proto(answer.label)

    async def undo_label(
        self, label: str, expected_version: int | None, timeout: float | None
    ) -> LabelMove:
        """Move a label back to the version that it left last."""
        text("label", label)
        optional_number("expected_version", expected_version)
        request = pb.UndoLabelRequest(
            job=self._job, label=label, expected_version=expected_version
        )
        answer = await self._connection.call(self._stub.UndoLabel, request, timeout)
        return label_from_proto(answer.label)

    async def pin(self, at: At, timeout: float | None, *, pinned: bool) -> VersionEntry:
        """Pin a version, so that it is always kept, or unpin it."""
        request = pb.PinVersionRequest(job=self._job, pinned=switch("pinned", pinned))
        at.put_into(request)
        answer = await self._connection.call(self._stub.PinVersion, request, timeout)
        return version_entry_from_proto(answer.version)

    async def publish(self, wait: float, timeout: float | None) -> Version:
        """Ask the run for a version now, and wait up to ``wait`` seconds for it."""
        seconds("wait", wait)
        request = pb.PublishVersionRequest(job=self._job)
        request.wait.FromMilliseconds(round(wait * 1000))
        method = self._stub.PublishVersion
        answer = await self._connection.call(method, request, timeout, waits=wait)
        return version_from_proto(answer.version)

    async def _update(
        self, published: pb.VersionPublished, wanted: Wanted, *, data: bool
    ) -> ParameterUpdate | None:
        """Return the update for a watcher; with data, of the version there is by then."""
        version = version_from_proto(published.version)
        if not data:
            return ParameterUpdate(version, published.skipped)
        found = await self.get(wanted, None)
        if found is None:
            return None
        return ParameterUpdate(found.version, wanted.skipped(found.version), found)
