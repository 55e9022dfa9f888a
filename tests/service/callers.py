"""Raw calls of every method of the service, with whatever credential a test gives them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from dbp.inference import open_inference_pb2
from dbp.v1 import (
    access_service_pb2,
    admin_service_pb2,
    job_service_pb2,
    parameter_service_pb2,
    worker_service_pb2,
)
from tests.deadline import DEADLINE

FILES = (
    access_service_pb2, admin_service_pb2, job_service_pb2, parameter_service_pb2,
    worker_service_pb2, open_inference_pb2, health_pb2, reflection_pb2,
)  # fmt: skip
V1ALPHA = "grpc.reflection.v1alpha."


def _methods() -> dict[str, tuple[bool, bool]]:
    """Return which sides stream, by /SERVICE/METHOD."""
    found = {
        f"/{service.full_name}/{method.name}": (
            method.client_streaming,
            method.server_streaming,
        )
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    later = {
        name.replace(V1ALPHA, "grpc.reflection.v1."): kind
        for name, kind in found.items()
        if V1ALPHA in name
    }
    return found | later


# Every method of every service: whether the client streams, and whether the server does.
EVERY_METHOD = _methods()


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a token."""
    return (("authorization", f"Bearer {token}"),)


async def answer_code(
    channel: grpc.aio.Channel, method: str, metadata: Any = (), request: bytes = b""
) -> tuple[grpc.StatusCode, str]:
    """Code and text with which a call of one empty message ends."""
    while True:
        code, text = await _answer_code(channel, method, metadata, request)
        # grpcio's own, where the answer comes before the client has sent everything.
        if not text.startswith("Internal error from Core"):
            return code, text


async def _answer_code(
    channel: grpc.aio.Channel, method: str, metadata: Any, request: bytes
) -> tuple[grpc.StatusCode, str]:
    takes_stream, sends_stream = EVERY_METHOD.get(method, (False, False))

    async def requests() -> AsyncIterator[bytes]:
        yield request

    kinds = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }
    make: Any = kinds[takes_stream, sends_stream]
    call = make(method)(
        requests() if takes_stream else request, metadata=metadata, timeout=DEADLINE
    )
    try:
        if sends_stream:
            async for _ in call:
                call.cancel()
                return grpc.StatusCode.OK, ""
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""
