"""Read parameters over sockets: requests, streams that are checked, reasons of errors."""

from __future__ import annotations

from typing import Any

import google_crc32c
import grpc
import pytest
from google.rpc import error_details_pb2

from dbp.rpc.enums import cast_to_proto
from dbp.v1 import parameter_service_pb2 as pb
from tests.service.setups import Run, Service, details, read_all

Code = grpc.StatusCode


def ask(run: Run, *patterns: str, **fields: Any) -> pb.StreamParametersRequest:
    at = {name: fields.pop(name) for name in ("version", "step", "label") if name in fields}
    chosen = pb.ParameterSelector(job=f"jobs/{run.id}", tensors=patterns, **at)
    wait = fields.pop("wait", None)
    fields["cast"] = cast_to_proto(fields.get("cast"))
    request = pb.StreamParametersRequest(selector=chosen, **fields)
    if wait is not None:
        request.wait.FromMilliseconds(round(wait * 1000))
    return request


async def read(
    service: Service, request: pb.StreamParametersRequest
) -> tuple[pb.ParametersHeader, bytes, str]:
    """Header, bytes and the digest of the trailer; chunks are checked on the way."""
    messages = await read_all(service.parameters.StreamParameters(request))
    first, *chunks = [part for part in messages if not part.HasField("heartbeat")]
    if first.header.not_modified:
        assert not chunks
        return first.header, b"", ""
    *chunks, last = chunks
    content = b""
    for message in chunks:
        assert message.chunk.offset == request.offset + len(content)
        assert message.chunk.crc32c == google_crc32c.value(message.chunk.data)
        content += message.chunk.data
    return first.header, content, last.trailer.digest


async def reason(call: Any, code: grpc.StatusCode) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo of a call's error."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code, caught.value.details()
    info: error_details_pb2.ErrorInfo = details(caught.value, error_details_pb2.ErrorInfo())
    return info
