"""A gRPC channel whose calls carry a token.

gRPC's call credentials need encryption, and its interceptors cost a task for each call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, final

import grpc

from dbp.rpc.bearer import Bearer
from dbp.rpc.wrapped_channel import Call, WrappedChannel


@final
class BearerChannel(WrappedChannel):
    """Makes each call on the route that a Bearer chooses, with its metadata."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        bearer: Bearer,
        open_socket: Callable[[Path], grpc.aio.Channel],
    ) -> None:
        """Store the configuration.

        Args:
            channel: To the address.
            bearer: Chooses the route of each call.
            open_socket: Returns a channel to a Unix socket.
        """
        self._channel = channel
        self._bearer = bearer
        self._open_socket = open_socket
        self._sockets: dict[Path, grpc.aio.Channel] = {}
        self._closed = False

    async def close(self, grace: float | None = None) -> None:
        self._closed = True
        await super().close(grace)

    @property
    def is_local(self) -> bool:
        """Whether calls go over a Unix socket now. Raises as ``Bearer.route``."""
        return self._bearer.route().local

    def _method(self, make: Callable[[grpc.aio.Channel], Call]) -> Call:
        made: dict[grpc.aio.Channel, Call] = {}

        def call(*request: Any, metadata: Any = None, **settings: Any) -> Any:
            if self._closed:  # before the route: without a listener there is none
                raise grpc.aio.UsageError("Channel is closed.")
            route = self._bearer.route()
            channel = self._to(route.socket)
            if channel not in made:
                made[channel] = make(channel)
            sent = (*(metadata or ()), *route.metadata)
            return made[channel](*request, metadata=sent, **settings)

        return call

    def _present(self) -> grpc.aio.Channel:
        return self._to(self._bearer.route().socket)

    def _all(self) -> Iterable[grpc.aio.Channel]:
        return (self._channel, *self._sockets.values())

    def _to(self, socket: Path | None) -> grpc.aio.Channel:
        if socket is None:
            return self._channel
        if socket not in self._sockets:
            self._sockets[socket] = self._open_socket(socket)
        return self._sockets[socket]
