"""ParameterService: versions of parameters, whole or in part, as safetensors bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, TypeAlias, final

import grpc

from dbp.control.manager import JobManager
from dbp.control.version_file import OpenVersion
from dbp.errors import InvalidInput, WrongState
from dbp.rpc.convert import id_from_name, manifest_to_proto, version_to_proto
from dbp.service.selection import Selection
from dbp.v1 import job_pb2, parameter_service_pb2_grpc
from dbp.v1 import parameter_service_pb2 as pb

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

MAX_UNARY_BYTES: Final = 3 << 20
MAX_WAIT_SECONDS: Final = 3600.0


@final
class ParameterService(parameter_service_pb2_grpc.ParameterServiceServicer):
    """Reads what runs have published; never waits for a run, never disturbs one."""

    def __init__(self, manager: JobManager) -> None:
        self._manager = manager

    async def GetParameterInfo(
        self, request: pb.GetParameterInfoRequest, context: Context
    ) -> pb.GetParameterInfoResponse:
        """See the proto."""
        with await self._open(request.selector) as opened:
            return pb.GetParameterInfoResponse(
                version=version_to_proto(opened.version),
                manifest=manifest_to_proto(_select(opened, request).manifest),
            )

    async def GetParameters(
        self, request: pb.GetParametersRequest, context: Context
    ) -> pb.GetParametersResponse:
        """See the proto."""
        _check_newer_than(request.newer_than)
        with await self._open(request.selector) as opened:
            version = version_to_proto(opened.version)
            if opened.version.version <= request.newer_than:
                return pb.GetParametersResponse(version=version, not_modified=True)
            selection = _select(opened, request)
            data = await asyncio.to_thread(_small, selection)
        return pb.GetParametersResponse(
            version=version, safetensors=data, digest=selection.digest
        )

    async def StreamParameters(
        self, request: pb.StreamParametersRequest, context: Context
    ) -> AsyncIterator[pb.StreamParametersResponse]:
        """See the proto."""
        _check_newer_than(request.newer_than)
        await self._wait(request)
        with await self._open(request.selector) as opened:
            version = version_to_proto(opened.version)
            if opened.version.version <= request.newer_than:
                header = pb.ParametersHeader(version=version, not_modified=True)
                yield pb.StreamParametersResponse(header=header)
                return
            async for part in _parts(version, _select(opened, request)):
                yield part

    async def _wait(self, request: pb.StreamParametersRequest) -> None:
        if not request.HasField("wait") or request.selector.version:
            return
        seconds = min(request.wait.ToMilliseconds() / 1000, MAX_WAIT_SECONDS)
        job_id = id_from_name(request.selector.job)
        await self._manager.wait_version(job_id, request.newer_than, max(0.0, seconds))

    async def _open(self, selector: pb.ParameterSelector) -> OpenVersion:
        if selector.version < 0:
            raise InvalidInput(f"selector.version: must be >= 0, got {selector.version}")
        return await self._manager.open_version(id_from_name(selector.job), selector.version)


def _check_newer_than(version: int) -> None:
    if version < 0:
        raise InvalidInput(f"newer_than: must be >= 0, got {version}")


def _select(opened: OpenVersion, request: Any) -> Selection:
    return Selection(opened, list(request.selector.tensors))


def _small(selection: Selection) -> bytes:
    if selection.size > MAX_UNARY_BYTES:
        raise WrongState(
            f"parameters: {selection.size} bytes are too many for one message (at most "
            f"{MAX_UNARY_BYTES}); use StreamParameters, or select tensors"
        )
    return b"".join(selection.chunks())


async def _parts(
    version: job_pb2.ParameterVersion, selection: Selection
) -> AsyncIterator[pb.StreamParametersResponse]:
    header = pb.ParametersHeader(
        version=version,
        size_bytes=selection.size,
        manifest=manifest_to_proto(selection.manifest),
    )
    yield pb.StreamParametersResponse(header=header)
    chunks, offset = selection.chunks(), 0
    while data := await asyncio.to_thread(next, chunks, b""):
        chunk = pb.ParametersChunk(offset=offset, data=data)
        yield pb.StreamParametersResponse(chunk=chunk)
        offset += len(data)
    trailer = pb.ParametersTrailer(digest=selection.digest)
    yield pb.StreamParametersResponse(trailer=trailer)
