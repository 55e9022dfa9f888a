"""A gRPC channel that opens another connection before the streams of one run out.

A service allows a number of streams on a connection; gRPC lets the next one wait in silence
until another ends, and a watch may never end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, final

import grpc

from dbp.rpc.wrapped_channel import Call, WrappedChannel

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
class StreamPool(WrappedChannel):
    """Sends each call over the first connection that has a stream left."""

    def __init__(self, connect: Callable[[], grpc.aio.Channel]) -> None:
        """``connect`` returns a channel with a connection of its own."""
        self._connect = connect
        self._connections = [_Connection(connect())]

    def _method(self, make: Callable[[grpc.aio.Channel], Call]) -> Call:
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

    def _present(self) -> grpc.aio.Channel:
        return self._connections[0].channel

    def _all(self) -> Iterable[grpc.aio.Channel]:
        return [connection.channel for connection in self._connections]

    def _next(self) -> _Connection:
        for connection in self._connections:
            if connection.open < STREAMS_BEFORE_NEXT:
                return connection
        self._connections.append(_Connection(self._connect()))
        return self._connections[-1]
