"""A gRPC channel whose calls go over other channels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc

Call: TypeAlias = Callable[..., Any]


class WrappedChannel(grpc.aio.Channel):
    """Makes the methods of other channels; subclasses choose the channel of each call."""

    @abstractmethod
    def _method(self, make: Callable[[grpc.aio.Channel], Call]) -> Call:
        """Return a method; ``make`` returns the same method of another channel."""

    @abstractmethod
    def _present(self) -> grpc.aio.Channel:
        """Return the channel whose state is that of this one."""

    @abstractmethod
    def _all(self) -> Iterable[grpc.aio.Channel]:
        """Return the channels to close."""

    def unary_unary(self, *method: Any, **options: Any) -> Any:
        return self._method(lambda channel: channel.unary_unary(*method, **options))

    def unary_stream(self, *method: Any, **options: Any) -> Any:
        return self._method(lambda channel: channel.unary_stream(*method, **options))

    def stream_unary(self, *method: Any, **options: Any) -> Any:
        return self._method(lambda channel: channel.stream_unary(*method, **options))

    def stream_stream(self, *method: Any, **options: Any) -> Any:
        return self._method(lambda channel: channel.stream_stream(*method, **options))

    async def close(self, grace: float | None = None) -> None:
        for channel in self._all():
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
