"""Ask a service whether it serves; the one call that needs no token."""

from __future__ import annotations

from grpc_health.v1 import health_pb2, health_pb2_grpc

from dbp.client.transport.calls import translated
from dbp.rpc.channel import connect


async def is_serving(address: str, *, service: str = "", timeout: float) -> bool:
    """Return whether a service answers that it serves.

    Args:
        address: HOST:PORT or unix:PATH.
        service: Full name of one gRPC service; "" for all of them.
        timeout: Seconds within which it must answer.

    Raises Unavailable, InvalidInput, and NotFound for a gRPC service that it does not have.
    """
    async with connect(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        with translated():
            answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
    serving: bool = answer.status == health_pb2.HealthCheckResponse.SERVING
    return serving
