"""A gRPC channel whose calls carry a token.

gRPC's call credentials need encryption, and its interceptors cost a task for each call.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, final

import grpc

from dbp.rpc.bearer import Bearer

Call: TypeAlias = Callable[..., Any]


@final
class BearerChannel(grpc.aio.Channel):
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

    def unary_unary(self, *method: Any, **options: Any) -> Any:
        """Return a method whose calls carry the token."""
        return self._carrying("unary_unary", method, options)

    def unary_stream(self, *method: Any, **options: Any) -> Any:
        """Return a method whose calls carry the token."""
        return self._carrying("unary_stream", method, options)

    def stream_unary(self, *method: Any, **options: Any) -> Any:
        """Return a method whose calls carry the token."""
        return self._carrying("stream_unary", method, options)

    def stream_stream(self, *method: Any, **options: Any) -> Any:
        """Return a method whose calls carry the token."""
        return self._carrying("stream_stream", method, options)

    @property
    def is_local(self) -> bool:
        """Whether calls go over a Unix socket now. Raises as ``Bearer.route``."""
        return self._bearer.route().local

    async def close(self, grace: float | None = None) -> None:
        for channel in (self._channel, *self._sockets.values()):
            await channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._present().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: Any) -> None:
        await self._present().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._present().channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    def _carrying(self, kind: str, method: Any, options: Any) -> Call:
        made: dict[grpc.aio.Channel, Call] = {}

        def call(*request: Any, metadata: Any = None, **settings: Any) -> Any:
            route = self._bearer.route()
            channel = self._to(route.socket)
            if channel not in made:
                made[channel] = getattr(channel, kind)(*method, **options)
            sent = (*(metadata or ()), *route.metadata)
            return made[channel](*request, metadata=sent, **settings)

        return call

    def _present(self) -> grpc.aio.Channel:
        return self._to(self._bearer.route().socket)

    def _to(self, socket: Path | None) -> grpc.aio.Channel:
        if socket is None:
            return self._channel
        if socket not in self._sockets:
            self._sockets[socket] = self._open_socket(socket)
        return self._sockets[socket]
