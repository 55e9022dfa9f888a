"""Download parameters, resuming after each broken stream.

A download that breaks off continues where it stopped: the same version, from the next byte.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Protocol, TypeAlias, TypeVar, final

from dbp.client.transport.calls import listen, translated
from dbp.client.transport.connection import Connection
from dbp.client.transport.patience import FIRST_WAIT_SECONDS, Patience
from dbp.client.transport.receiver import OnBytes, Receiver
from dbp.errors import (
    ClientClosed,
    DeadlineExceeded,
    Unavailable,
    VersionEvicted,
    VersionNotFound,
)
from dbp.rpc.forking import is_forked
from dbp.v1 import parameter_service_pb2 as pb

M = TypeVar("M")


class Answer(AsyncIterable[bytes], Protocol):
    """A stream of serialized messages that can be cancelled."""

    def cancel(self) -> object:
        """End the stream; the service stops sending."""


Ask: TypeAlias = Callable[[pb.StreamParametersRequest], Answer]


async def download(
    connection: Connection,
    ask: Ask,
    request: pb.StreamParametersRequest,
    *,
    timeout: float | None = None,
    patience: Patience,
    on_bytes: OnBytes | None = None,
) -> Receiver:
    """Ask for parameters until they are here, verified; errors of ``dbp.errors``.

    A stream that breaks or falls silent is asked for again while there is ``patience``; it
    continues after the last byte, unless its version is gone by then.

    Args:
        connection: Says how long the service may be silent.
        ask: Opens a stream.
        request: Names the version, and how long the service may wait for it.
        timeout: Seconds to the first byte, beyond that wait, and between bytes. None means
            the client's.
        patience: For the rest of a file; its first byte is only waited for as requested.
        on_bytes: Called with (bytes received, bytes in all).
    """
    receiver = Receiver(request, on_bytes=on_bytes)
    limits = _Limits(connection, request, receiver, timeout)
    while True:
        before = receiver.begun, receiver.received
        cut: Unavailable = Unavailable("the stream of parameters was cut; ask again")
        try:
            await _take(receiver, ask, _remaining(request, receiver, limits), limits, patience)
            if receiver.done:
                return receiver
        except ClientClosed:
            raise
        except Unavailable as error:
            cut = error
        except (VersionEvicted, VersionNotFound):
            if not receiver.begun:
                raise
            receiver.forget()
            limits.restart()
            await asyncio.sleep(FIRST_WAIT_SECONDS)
            continue
        if not receiver.begun and limits.over(cut):
            raise cut
        if (receiver.begun, receiver.received) > before:
            patience.alive()
        await patience.again(cut)


@final
class _Limits:
    """Deadlines of the messages of a download."""

    def __init__(
        self,
        connection: Connection,
        request: pb.StreamParametersRequest,
        receiver: Receiver,
        timeout: float | None,
    ) -> None:
        self._connection = connection
        self._receiver = receiver
        self._timeout = connection.limit(timeout)
        self._silence = connection.silence(timeout)
        self._between_bytes = min(self._timeout, self._silence)
        self._wait = request.wait.ToMilliseconds() / 1000
        self._began = time.monotonic()

    def restart(self) -> None:
        """Allow as much time to the first byte of another version as to that of the first."""
        self._wait, self._began = self.wait_left, time.monotonic()

    @property
    def wait_left(self) -> float:
        """Seconds for which the service may still wait for the requested version."""
        return max(0.0, self._began + self._wait - time.monotonic())

    def over(self, cut: Unavailable) -> bool:
        """Return whether there is no time left for the first byte.

        A service that is away has as long to come as the request waits, a silent one has the
        timeout, too.
        """
        more = self._timeout if isinstance(cut, DeadlineExceeded) else 0.0
        return time.monotonic() >= self._began + self._wait + more

    def seconds(self) -> float:
        """Return the seconds within which the next message must arrive."""
        if self._receiver.begun:
            return self._between_bytes
        first_byte = self._began + self._wait + self._timeout - time.monotonic()
        return min(self._silence, max(0.0, first_byte))

    def late(self, limit: float) -> DeadlineExceeded:
        """Return the error for a message that did not come."""
        if self._receiver.begun:
            return self._connection.late("no bytes of the parameters came", limit)
        waited = time.monotonic() - self._began
        allowed = self._wait + self._timeout  # the timer fires a little later
        return self._connection.late("no parameters came", min(waited, allowed))


async def _take(
    receiver: Receiver,
    ask: Ask,
    request: pb.StreamParametersRequest,
    limits: _Limits,
    patience: Patience,
) -> None:
    """Receive from one stream and close it; errors of ``dbp.errors``."""
    with translated():
        call = ask(request)
        try:
            messages = listen(call, limits.seconds, limits.late)
            await receiver.take(_noting(messages, patience))
        finally:
            if not is_forked():
                call.cancel()


async def _noting(messages: AsyncGenerator[M, None], patience: Patience) -> AsyncIterator[M]:
    async for message in messages:
        patience.heard()
        yield message


def _remaining(
    request: pb.StreamParametersRequest, receiver: Receiver, limits: _Limits
) -> pb.StreamParametersRequest:
    """Return the request for the bytes that have not arrived."""
    rest = pb.StreamParametersRequest()
    if not receiver.begun or receiver.version is None:
        rest.CopyFrom(request)
        if request.HasField("wait"):
            rest.wait.FromMilliseconds(round(limits.wait_left * 1000))
        return rest
    rest.selector.CopyFrom(request.selector)
    rest.cast, rest.chunk_bytes = request.cast, request.chunk_bytes
    rest.selector.version = receiver.version.version
    rest.offset = receiver.received
    return rest
