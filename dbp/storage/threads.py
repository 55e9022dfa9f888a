"""Blocking work in threads, off the event loop.

A thread cannot be stopped: a cancelled caller waits for it, so that nothing that the thread
uses is closed and no result is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[[], T], threads: Executor | None = None) -> T:
    """Run in a thread (of ``threads``, or of the loop's own) and return the result."""
    loop = asyncio.get_running_loop()
    return await to_its_end(loop.run_in_executor(threads, function))


async def to_its_end(work: asyncio.Future[T]) -> T:
    """Return the result of ``work``; a caller that is cancelled first waits for its end."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # retrieved: the caller is gone
        raise
