"""ParameterService: read, watch, label and pin parameter versions, as safetensors bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any, Final, TypeAlias, final

import grpc
from google.protobuf.message import Message

from dbp.errors import InvalidInput, UseStream
from dbp.job.labels import check_name
from dbp.job.state import Version
from dbp.jobs.live_parameters import LiveParameters
from dbp.rpc.enums import cast_from_proto
from dbp.rpc.version_convert import label_to_proto, version_entry_to_proto, version_to_proto
from dbp.service.guarded_server import GuardedServer
from dbp.service.job_access import JobAccess
from dbp.service.parameters.descriptions import INLINE_NAMES, Descriptions
from dbp.service.parameters.encoded import Encoded
from dbp.service.parameters.encoded_cache import EncodedCache
from dbp.service.parameters.readers import (
    READS,
    STREAMS,
    STREAMS_PER_CONNECTION,
    WATCHES,
    ReaderLimits,
    ReaderThreads,
)
from dbp.service.parameters.streams import stream_messages, watch
from dbp.service.parameters.wanted import (
    DEFAULT_CHUNK_BYTES,
    Wanted,
    at_of,
    chunk_bytes_of,
    destination_of,
    pinned_of,
)
from dbp.v1 import parameter_service_pb2 as pb
from dbp.v1 import parameter_service_pb2_grpc
from dbp.versions.file import OpenVersion
from dbp.versions.selection import Selection, selected, selecting_work
from dbp.versions.store import VersionStore
from dbp.versions.tensor_patterns import check_patterns

Context: TypeAlias = "grpc.aio.ServicerContext[Message, Message]"

MAX_UNARY_BYTES: Final = 3 << 20
PUBLISH_SECONDS: Final = 30.0
MAX_PUBLISH_SECONDS: Final = 3600.0


@final
class ParameterService(parameter_service_pb2_grpc.ParameterServiceServicer):
    """Reads published parameters; never waits for a run or disturbs one."""

    def __init__(
        self,
        versions: VersionStore,
        parameters: LiveParameters,
        access: JobAccess,
        *,
        heartbeat_seconds: float,
    ) -> None:
        self._access = access
        self._versions = versions
        self._parameters = parameters
        self._heartbeat_seconds = heartbeat_seconds
        self._threads = ReaderThreads()
        self._cache = EncodedCache(
            versions.seems_kept, self._threads, chunk_bytes=DEFAULT_CHUNK_BYTES
        )
        versions.on_deleted(self._cache.drop)
        self._descriptions = Descriptions(self._threads)
        self._reads = ReaderLimits("reads", READS)
        self._streams = ReaderLimits("streams", STREAMS, STREAMS_PER_CONNECTION)
        self._watches = ReaderLimits("watches", WATCHES)

    def close(self) -> None:
        """Close files; call it after the last call has ended."""
        self._cache.close()
        self._threads.close()

    async def GetParameterInfo(
        self, request: pb.GetParameterInfoRequest, context: Context
    ) -> bytes:
        """Return the serialized response, from the cache if it is there."""
        chosen = request.selector
        check_patterns(chosen.tensors)
        job_id = await self._access.readable(chosen.job)
        with self._reads.taken():
            version, manifest = await self._versions.describe(job_id, at_of(chosen))
            return await self._descriptions.get(version, manifest, chosen.tensors)

    async def GetParameters(
        self, request: pb.GetParametersRequest, context: Context
    ) -> pb.GetParametersResponse:
        wanted = Wanted.of(request)
        await self._access.readable(request.selector.job)
        with self._reads.taken():
            with await self._versions.open(wanted.job_id, wanted.at) as opened:
                version = version_to_proto(opened.version)
                if wanted.unchanged(opened.version):
                    return pb.GetParametersResponse(version=version, not_modified=True)
                wanted.check_fresh(opened.version, self._parameters)
                selection = await self._selected(opened, request.selector.tensors, wanted.cast)
                _check_small(selection)
                async with self._cache.open(opened, selection) as encoded:
                    data = await encoded.whole()
            return pb.GetParametersResponse(
                version=version, safetensors=data, digest=encoded.source.version.digest
            )

    async def StreamParameters(
        self, request: pb.StreamParametersRequest, context: Context
    ) -> AsyncIterator[bytes]:
        """Yield the serialized messages of the answer."""
        wanted, chunk_bytes = Wanted.of(request), chunk_bytes_of(request)
        await self._access.readable(request.selector.job)
        with self._streams.taken():
            async with AsyncExitStack() as stack:
                messages = stream_messages(
                    self._opened(wanted, request, stack),
                    self._heartbeat_seconds,
                    request.offset,
                    chunk_bytes,
                )
                async with aclosing(messages):  # the opening ends before the stack's exit
                    async for message in messages:
                        yield message

    async def _opened(
        self, wanted: Wanted, request: pb.StreamParametersRequest, stack: AsyncExitStack
    ) -> tuple[pb.ParametersHeader, Encoded | None]:
        """Wait for the wanted version and open it; None where none is newer or different."""
        if request.HasField("wait"):
            seconds = request.wait.ToMilliseconds() / 1000
            await wanted.wait(self._versions, self._parameters, seconds)
        opened = stack.enter_context(await self._versions.open(wanted.job_id, wanted.at))
        header = await self._header(wanted.job_id, opened.version)
        if wanted.unchanged(opened.version):
            header.not_modified = True
            return header, None
        wanted.check_fresh(opened.version, self._parameters)
        encoded = await self._encoded(opened, request.selector.tensors, wanted.cast, stack)
        opened.close()
        return header, encoded

    async def _encoded(
        self, opened: OpenVersion, patterns: Sequence[str], cast: str, stack: AsyncExitStack
    ) -> Encoded:
        selection = await self._selected(opened, patterns, cast)
        return await stack.enter_async_context(self._cache.open(opened, selection))

    async def WatchParameters(
        self, request: pb.WatchParametersRequest, context: Context
    ) -> AsyncIterator[bytes]:
        """Yield the serialized messages of the answer."""
        cast = cast_from_proto(request.cast)
        check_patterns(request.tensors)
        if request.newer_than < 0:
            raise InvalidInput(f"newer_than: must be >= 0, got {request.newer_than}")
        if request.label:
            check_name(request.label)
        job_id = await self._access.readable(request.job)

        async def opened_for(
            opened: OpenVersion, stack: AsyncExitStack
        ) -> tuple[pb.ParametersHeader, Encoded | None]:
            encoded = await self._encoded(opened, request.tensors, cast, stack)
            return await self._header(job_id, opened.version), encoded

        async def send(opened: OpenVersion) -> AsyncGenerator[bytes, None]:
            async with AsyncExitStack() as stack:
                messages = stream_messages(
                    opened_for(opened, stack), self._heartbeat_seconds, 0, DEFAULT_CHUNK_BYTES
                )
                async with aclosing(messages):
                    async for message in messages:
                        yield message

        with self._watches.taken():
            messages = watch(
                self._versions,
                self._parameters,
                job_id,
                request.label,
                request.newer_than,
                send if request.with_data else None,
                self._heartbeat_seconds,
            )
            async with aclosing(messages):
                async for message in messages:
                    yield message

    async def ListVersions(
        self, request: pb.ListVersionsRequest, context: Context
    ) -> pb.ListVersionsResponse:
        job_id = await self._access.readable(request.job)
        entries, token = await self._parameters.history(
            job_id, request.page_size, request.page_token
        )
        return pb.ListVersionsResponse(
            versions=map(version_entry_to_proto, entries), next_page_token=token
        )

    async def MoveLabel(
        self, request: pb.MoveLabelRequest, context: Context
    ) -> pb.MoveLabelResponse:
        move = await self._parameters.move_label(
            await self._access.changeable(request.job),
            request.label,
            destination_of(request),
            request.expected_version if request.HasField("expected_version") else None,
        )
        return pb.MoveLabelResponse(label=label_to_proto(move))

    async def UndoLabel(
        self, request: pb.UndoLabelRequest, context: Context
    ) -> pb.UndoLabelResponse:
        move = await self._parameters.undo_label(
            await self._access.changeable(request.job),
            request.label,
            request.expected_version if request.HasField("expected_version") else None,
        )
        return pb.UndoLabelResponse(label=label_to_proto(move))

    async def ListLabels(
        self, request: pb.ListLabelsRequest, context: Context
    ) -> pb.ListLabelsResponse:
        job_id = await self._access.readable(request.job)
        now, history = await self._parameters.labels(job_id)
        return pb.ListLabelsResponse(
            labels=map(label_to_proto, now), history=map(label_to_proto, history)
        )

    async def PinVersion(
        self, request: pb.PinVersionRequest, context: Context
    ) -> pb.PinVersionResponse:
        job_id = await self._access.changeable(request.job)
        entry = await self._parameters.pin(job_id, pinned_of(request), pinned=request.pinned)
        return pb.PinVersionResponse(version=version_entry_to_proto(entry))

    async def PublishVersion(
        self, request: pb.PublishVersionRequest, context: Context
    ) -> pb.PublishVersionResponse:
        seconds, job_id = PUBLISH_SECONDS, await self._access.changeable(request.job)
        if request.HasField("wait"):
            seconds = min(max(0.0, request.wait.ToMilliseconds() / 1000), MAX_PUBLISH_SECONDS)
        # gRPC retries no call that has sent a header, so the client waits only once.
        await context.send_initial_metadata(())
        version = await self._parameters.publish(job_id, seconds)
        return pb.PublishVersionResponse(version=version_to_proto(version))

    async def _header(self, job_id: str, version: Version) -> pb.ParametersHeader:
        ended = (await self._parameters.job(job_id)).state.terminal
        return pb.ParametersHeader(version=version_to_proto(version), job_ended=ended)

    async def _selected(
        self, opened: OpenVersion, patterns: Sequence[str], cast: str
    ) -> Selection:
        stored = opened.manifest
        if selecting_work(stored, patterns, cast) <= INLINE_NAMES:
            return selected(opened.version, stored, patterns, cast)
        return await self._threads.match(selected, opened.version, stored, patterns, cast)


def add_to_server(service: ParameterService, server: GuardedServer) -> None:
    """Register all methods; some return serialized answers."""
    descriptor = pb.DESCRIPTOR.services_by_name["ParameterService"]
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in descriptor.methods:
        request: Any = getattr(pb, method.input_type.name)
        behavior = getattr(service, method.name)
        if method.server_streaming:
            handlers[method.name] = grpc.unary_stream_rpc_method_handler(
                behavior, request_deserializer=request.FromString, response_serializer=None
            )
        else:
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(
                behavior, request_deserializer=request.FromString, response_serializer=_bytes_of
            )
    server.add_service(descriptor.full_name, handlers)


def _bytes_of(answer: Message | bytes) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def _check_small(selection: Selection) -> None:
    if selection.size > MAX_UNARY_BYTES:
        raise UseStream(
            f"parameters: {selection.size} bytes are too many for one message (at most "
            f"{MAX_UNARY_BYTES}); use StreamParameters, or select tensors",
            size_bytes=selection.size,
            limit_bytes=MAX_UNARY_BYTES,
        )
