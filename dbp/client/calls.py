"""Turn the failures and the silence of calls into errors of dbp."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator
from typing import Final, TypeVar

import grpc

from dbp.client.watchdog import Watchdog
from dbp.errors import ClientClosed, DeadlineExceeded
from dbp.rpc.forking import check_not_forked
from dbp.rpc.status import error_from_rpc

T = TypeVar("T")

# Exceptions with which a call may end.
FAILURES: Final = (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.CancelledError)


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
    watchdog = Watchdog()
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


def _closed() -> ClientClosed:
    return ClientClosed("the client has been closed")
