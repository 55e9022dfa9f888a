"""A gRPC channel that opens another connection before the streams of one run out.

A service allows a number of streams on a connection; gRPC lets the next one wait in silence
until another ends, and a watch may never end.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, final

import grpc

Call: TypeAlias = Callable[..., Any]

# Calls on one connection; services allow 100 (MAX_STREAMS).
STREAMS_BEFORE_NEXT: Final = 90


@final
class _Connection:
    """One channel, and the number of its open calls."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.open = 0

    def ended(self, _: object) -> None:
        """Count the end of a call."""
        self.open -= 1


@final
class StreamPool(grpc.aio.Channel):
    """Sends each call over the first connection that has a stream left."""

    def __init__(self, connect: Callable[[], grpc.aio.Channel]) -> None:
        """``connect`` returns a channel with a connection of its own."""
        self._connect = connect
        self._connections = [_Connection(connect())]

    def unary_unary(self, *method: Any, **options: Any) -> Any:
        """Return a method whose calls go over a connection with a stream left."""
        return self._spread(lambda channel: channel.unary_unary(*method, **options))

    def unary_stream(self, *method: Any, **options: Any) -> Any:
        """Return a method whose calls go over a connection with a stream left."""
        return self._spread(lambda channel: channel.unary_stream(*method, **options))

    def stream_unary(self, *method: Any, **options: Any) -> Any:
        """Return a method whose calls go over a connection with a stream left."""
        return self._spread(lambda channel: channel.stream_unary(*method, **options))

    def stream_stream(self, *method: Any, **options: Any) -> Any:
        """Return a method whose calls go over a connection with a stream left."""
        return self._spread(lambda channel: channel.stream_stream(*method, **options))

    async def close(self, grace: float | None = None) -> None:
        for connection in self._connections:
            await connection.channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._connections[0].channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: Any) -> None:
        await self._connections[0].channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._connections[0].channel.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    def _spread(self, make: Callable[[grpc.aio.Channel], Call]) -> Call:
        """Return a function that calls a method of the channel that it chooses."""
        made: dict[_Connection, Call] = {}

        def call(*request: Any, **options: Any) -> Any:
            connection = self._next()
            method = made.get(connection)
            if method is None:
                method = made[connection] = make(connection.channel)
            begun = method(*request, **options)
            connection.open += 1
            begun.add_done_callback(connection.ended)
            return begun

        return call

    def _next(self) -> _Connection:
        for connection in self._connections:
            if connection.open < STREAMS_BEFORE_NEXT:
                return connection
        self._connections.append(_Connection(self._connect()))
        return self._connections[-1]
