"""A client's channel, with deadlines for calls and limits of silence for streams."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar, final

from google.protobuf.message import Message

from dbp.client.arguments import seconds
from dbp.client.transport.calls import translated
from dbp.client.transport.loop_channel import LoopChannel
from dbp.errors import DeadlineExceeded
from dbp.option_names import either
from dbp.quantities import duration_text
from dbp.rpc.backoff import Backoff
from dbp.rpc.bearer import NoListener
from dbp.rpc.channel import connect
from dbp.rpc.credentials import Credentials
from dbp.rpc.status import SILENCE_CAUSE

log = logging.getLogger("dbp.client")

T = TypeVar("T")

TIMEOUT_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 60.0
# The service sends a heartbeat into an idle stream every 5 s: three in a row are missing.
SILENCE_SECONDS: Final = 15.0
# For which a call tries again where no program listens: gRPC's own retries need a connection.
RESTART_SECONDS: Final = 0.8
FIRST_PAUSE_SECONDS: Final = 0.2
LAST_PAUSE_SECONDS: Final = 0.4
# A call that may take longer than this logs that it waits.
NOTICE_SECONDS: Final = 10.0


@final
class Connection:
    """Makes calls with deadlines. The client and all that it returns share one."""

    def __init__(
        self,
        address: str,
        *,
        timeout: float,
        patience: float,
        credentials: Credentials | None = None,
    ) -> None:
        """Prepare a channel; raises as AsyncClient does.

        Args:
            address: HOST:PORT or unix:PATH.
            timeout: Seconds within which a call is answered, beyond what it waits for.
            patience: Seconds for which a broken stream is opened again.
            credentials: None: those of the environment.
        """
        self.address = address
        self.timeout = seconds("timeout", timeout)
        self.patience = patience
        self.channel = LoopChannel(lambda: connect(address, credentials))

    async def call(
        self,
        method: Callable[..., Awaitable[T]],
        request: Message,
        timeout: float | None,
        *,
        waits: float = 0.0,
    ) -> T:
        """Return the answer of a unary call; errors of ``dbp.errors``.

        Args:
            method: Of a stub.
            request: Its message.
            timeout: None means the client's.
            waits: Seconds for which the service may wait before it answers.

        Raises DeadlineExceeded where no answer comes within ``waits + timeout`` seconds.
        """
        limit = waits + self.limit(timeout)
        name = type(request).__name__.removesuffix("Request")
        with self._notice(name, waits + NOTICE_SECONDS, limit):
            try:
                with translated():
                    return await _answered(method, request, limit)
            except DeadlineExceeded as error:
                raise self.late(f"{name} got no answer", limit) from error

    def limit(self, timeout: float | None) -> float:
        """Return the deadline of a call in seconds; None means the client's."""
        return self.timeout if timeout is None else seconds("timeout", timeout)

    def silence(self, timeout: float | None) -> float:
        """Return the longest silence of a stream in seconds; None means the default."""
        return SILENCE_SECONDS if timeout is None else seconds("timeout", timeout)

    def late(self, event: str, limit: float) -> DeadlineExceeded:
        """Return the error for a service that let ``limit`` seconds pass."""
        return DeadlineExceeded(
            self._late_text(event, limit), address=self.address, seconds=limit
        )

    def _late_text(self, event: str, limit: float) -> str:
        return (
            f"service at {self.address}: {event} within {duration_text(limit)}: {SILENCE_CAUSE}"
            + either("", ", or needs more time (timeout=SECONDS)")
        )

    @contextlib.contextmanager
    def _notice(self, name: str, after: float, limit: float) -> Iterator[None]:
        """Log that a call has not been answered ``after`` seconds, if it may take longer."""
        if limit <= after:
            yield
            return
        notice = asyncio.get_running_loop().call_later(
            after,
            log.warning,
            "%s; waiting for up to %s",
            self._late_text(f"{name} got no answer", after),
            duration_text(limit),
        )
        try:
            yield
        finally:
            notice.cancel()


async def _answered(method: Callable[..., Awaitable[T]], request: Message, limit: float) -> T:
    """Return the answer of a method; wait a moment for a service that is being restarted."""
    backoff = Backoff(FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS)
    end = time.monotonic() + RESTART_SECONDS
    while True:
        try:
            return await method(request, timeout=limit)
        except NoListener:
            if time.monotonic() >= end:
                raise
            await asyncio.sleep(backoff.next())
