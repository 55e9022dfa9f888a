"""Bare gRPC channels that carry the owner's token, as dbp's own clients find it."""

from __future__ import annotations

from typing import Any

import grpc

from dbp.rpc.bearer import Bearer
from dbp.rpc.bearer_channel import BearerChannel
from dbp.rpc.credentials import Credentials


def bearer_of(address: str) -> Bearer:
    """The token for a service of this user; none for another server."""
    return Bearer(address, Credentials.found())


def open_channel(address: str, options: Any = None) -> grpc.aio.Channel:
    """A channel without dbp's options."""
    channel = grpc.aio.insecure_channel(address, options=options)
    return BearerChannel(channel, bearer_of(address))


def open_plain_channel(address: str) -> grpc.Channel:
    """The same for code without asyncio."""
    return grpc.intercept_channel(grpc.insecure_channel(address), _Carrying(bearer_of(address)))


class _Call(grpc.ClientCallDetails):
    """Details of a call with more metadata."""

    def __init__(self, details: Any, metadata: Any) -> None:
        self.method, self.timeout, self.credentials = (
            details.method,
            details.timeout,
            details.credentials,
        )
        self.wait_for_ready, self.compression = details.wait_for_ready, details.compression
        self.metadata = (*(details.metadata or ()), *metadata)


class _Carrying(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    def __init__(self, bearer: Bearer) -> None:
        self._bearer = bearer

    def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return continuation(_Call(client_call_details, self._bearer.metadata()), request)

    def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return continuation(_Call(client_call_details, self._bearer.metadata()), request)

    def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return continuation(
            _Call(client_call_details, self._bearer.metadata()), request_iterator
        )

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return continuation(
            _Call(client_call_details, self._bearer.metadata()), request_iterator
        )
