"""Bare gRPC channels over TCP that carry the owner's token, as tools of other makers do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import grpc

from dbp.access.places import service_at
from dbp.rpc.stream_pool import StreamPool

Call = Callable[..., Any]


def owner_metadata(address: str) -> tuple[tuple[str, str], ...]:
    """The token for a service of this user; none for another server."""
    found = service_at(int(address.rpartition(":")[2]))
    if found is None:
        return ()
    return (("authorization", f"Bearer {found.token_file.read_text().strip()}"),)


def open_channel(address: str, options: Any = None) -> Any:
    """A channel without dbp's options; more than one connection for many streams."""
    own = (*(options or ()), ("grpc.use_local_subchannel_pool", 1))
    pool = StreamPool(lambda: grpc.aio.insecure_channel(address, options=own))
    return _OwnerChannel(pool, address)


@final
class _OwnerChannel:
    """The part of ``grpc.aio.Channel`` that stubs use; its calls carry the owner's token."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        self._channel = channel
        self._metadata = owner_metadata(address)
        self.unary_unary = self._carrying(channel.unary_unary)
        self.unary_stream = self._carrying(channel.unary_stream)
        self.stream_unary = self._carrying(channel.stream_unary)
        self.stream_stream = self._carrying(channel.stream_stream)
        self.close = channel.close
        self.channel_ready = channel.channel_ready

    async def __aenter__(self) -> _OwnerChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    def _carrying(self, make: Call) -> Call:
        def made(*method: Any, **options: Any) -> Call:
            call = make(*method, **options)

            def carrying(*request: Any, metadata: Any = (), **settings: Any) -> Any:
                return call(*request, metadata=(*metadata, *self._metadata), **settings)

            return carrying

        return made


def open_plain_channel(address: str) -> grpc.Channel:
    """The same for code without asyncio."""
    carrying = _Carrying(owner_metadata(address))
    return grpc.intercept_channel(grpc.insecure_channel(address), carrying)


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
    def __init__(self, metadata: Any) -> None:
        self._metadata = metadata

    def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return continuation(_Call(client_call_details, self._metadata), request)

    def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return continuation(_Call(client_call_details, self._metadata), request)

    def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return continuation(_Call(client_call_details, self._metadata), request_iterator)

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return continuation(_Call(client_call_details, self._metadata), request_iterator)
