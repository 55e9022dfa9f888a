"""A gRPC channel that refuses calls from any event loop but the one it was made in.

gRPC would fail with a RuntimeError of asyncio, or run the call on the other thread's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar, final

import grpc

from dbp.errors import WrongEventLoop
from dbp.rpc.forking import check_not_forked

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")


@final
class LoopChannel:
    """The part of ``grpc.aio.Channel`` that stubs use, bound to the running event loop."""

    def __init__(self, connect: Callable[[], grpc.aio.Channel]) -> None:
        """Connect; raises WrongEventLoop where no event loop is running, ClientForked."""
        check_not_forked()  # before the loop: a forked child has none until it starts another
        loop = _running_loop()
        if loop is None:
            raise WrongEventLoop(
                "AsyncClient: no event loop is running; make it inside an async function, "
                "or use dbp.Client, which needs none"
            )
        self._loop = loop
        self._channel = connect()
        self.unary_unary = self._bound(self._channel.unary_unary)
        self.unary_stream = self._bound(self._channel.unary_stream)

    def check_loop(self) -> None:
        """Raise WrongEventLoop unless the channel's own event loop is running."""
        if _running_loop() is not self._loop:
            raise WrongEventLoop(
                "AsyncClient: was made in another event loop; make one client for each "
                "asyncio.run(), or use dbp.Client, which any thread can use"
            )

    async def close(self) -> None:
        """Close the gRPC channel; further calls fail."""
        self.check_loop()
        await self._channel.close()

    def _bound(self, make: Callable[P, Callable[Q, R]]) -> Callable[P, Callable[Q, R]]:
        """Return a method of the channel whose calls check the event loop first."""

        def made(*method: P.args, **options: P.kwargs) -> Callable[Q, R]:
            call = make(*method, **options)

            def checked(*request: Q.args, **options: Q.kwargs) -> R:
                self.check_loop()
                return call(*request, **options)

            return checked

        return made


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
