"""Translate gRPC's errors of a call into dbp's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

import grpc

from dbp.errors import ClientClosed
from dbp.rpc.forking import check_not_forked
from dbp.rpc.status import error_from_rpc

# What a call may end with.
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


def _closed() -> ClientClosed:
    return ClientClosed("the client has been closed")
