"""Turn failures, silence and misuse of calls into errors of dbp."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator
from typing import Final, TypeVar, final

import grpc

from dbp.errors import ClientClosed, DeadlineExceeded, InvalidInput
from dbp.rpc.forking import check_not_forked
from dbp.rpc.status import error_from_rpc

T = TypeVar("T")

# Exceptions with which a call may end.
FAILURES: Final = (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.CancelledError)
# A timer that is later than this shows that this process itself was paused.
LATE_SECONDS: Final = 1.0


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise gRPC's errors as dbp's; ClientClosed: the channel was closed before or meanwhile.

    CancelledError passes where the task itself was cancelled. ClientForked: see ``forking``.
    """
    check_not_forked()
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from error
    except grpc.aio.UsageError as error:
        raise _closed() from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise _closed() from None


async def listen(
    messages: AsyncIterable[T],
    limit: Callable[[], float],
    late: Callable[[float], DeadlineExceeded],
) -> AsyncGenerator[T, None]:
    """Yield the messages of a stream while none is late.

    Args:
        messages: Of a call.
        limit: Seconds within which the next message must arrive.
        late: The error to raise where it does not, given the limit.

    Raises ClientForked in a process forked since.
    """
    items = aiter(messages)
    watchdog = _Watchdog()
    try:
        while True:
            check_not_forked()
            seconds = limit()
            try:
                async with asyncio.timeout(None) as scope:
                    watchdog.watch(scope, seconds)
                    message = await anext(items)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise late(seconds) from None
            finally:
                watchdog.rest()
            yield message
    finally:
        watchdog.stop()


def not_picklable(found: object) -> InvalidInput:
    """Return the error for an attempt to pickle or copy a client or one of its objects."""
    return InvalidInput(
        f"{type(found).__name__} cannot be pickled or copied: its connection belongs to one "
        "process. Send the service's address and the job's id, and connect there: "
        "dbp.Client(address).job(job_id)"
    )


def _closed() -> ClientClosed:
    return ClientClosed("the client has been closed")


@final
class _Watchdog:
    """Expires the scope of a wait, as ``asyncio.timeout`` does, but not for a pause of its own.

    After Ctrl-Z and fg, or a callback that blocked the event loop, the limit starts again:
    messages may have arrived that the loop has not seen yet.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._scope: asyncio.Timeout | None = None
        self._seconds = self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, scope: asyncio.Timeout, seconds: float) -> None:
        """Expire the scope after this many seconds."""
        self._scope, self._seconds = scope, seconds
        self._due = self._loop.time() + seconds
        if self._timer is not None and self._timer.when() > self._due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._arm()

    def rest(self) -> None:
        """Expire nothing until the next ``watch``; keep the timer."""
        self._scope = None

    def stop(self) -> None:
        """Cancel the timer for good."""
        self._scope = None
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        self._timer = self._loop.call_at(self._due, self._expire, self._due)

    def _expire(self, planned: float) -> None:
        self._timer = None
        if self._scope is None:
            return
        now = self._loop.time()
        if now - planned >= LATE_SECONDS:
            self._due = now + self._seconds
        if now < self._due:
            self._arm()
        else:
            self._scope.reschedule(now)
