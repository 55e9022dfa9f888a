"""A gRPC channel whose calls carry a token.

gRPC's call credentials need encryption, and its interceptors cost a task for each call.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeAlias, final

import grpc

from dbp.rpc.bearer import Bearer

Call: TypeAlias = Callable[..., Any]


@final
class BearerChannel(grpc.aio.Channel):
    """Adds the metadata of a Bearer to each call of another channel."""

    def __init__(self, channel: grpc.aio.Channel, bearer: Bearer) -> None:
        self._channel = channel
        self._bearer = bearer

    def unary_unary(self, *method: Any, **options: Any) -> Any:
        """Return a method whose calls carry the token."""
        return self._carrying(self._channel.unary_unary(*method, **options))

    def unary_stream(self, *method: Any, **options: Any) -> Any:
        """Return a method whose calls carry the token."""
        return self._carrying(self._channel.unary_stream(*method, **options))

    def stream_unary(self, *method: Any, **options: Any) -> Any:
        """Return a method whose calls carry the token."""
        return self._carrying(self._channel.stream_unary(*method, **options))

    def stream_stream(self, *method: Any, **options: Any) -> Any:
        """Return a method whose calls carry the token."""
        return self._carrying(self._channel.stream_stream(*method, **options))

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: Any) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    def _carrying(self, method: Call) -> Call:
        def call(*request: Any, metadata: Any = None, **options: Any) -> Any:
            sent = (*(metadata or ()), *self._bearer.metadata())
            return method(*request, metadata=sent, **options)

        return call
