"""Thread pools for readers, separate from those in which runs publish."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar, final

DERIVING: Final = 2
MATCHING: Final = 2
READING: Final = 4

P = ParamSpec("P")
T = TypeVar("T")


@final
class ReaderThreads:
    """One small pool per kind of work, so that long work does not delay short work."""

    def __init__(self) -> None:
        """Start no thread until it is needed."""
        self._deriving = ThreadPoolExecutor(DERIVING, thread_name_prefix="derive")
        self._matching = ThreadPoolExecutor(MATCHING, thread_name_prefix="match")
        self._reading = ThreadPoolExecutor(READING, thread_name_prefix="read")

    async def derive(
        self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """Run work that reads whole versions."""
        return await _run(self._deriving, lambda: function(*arguments, **named))

    async def match(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run work that looks at every tensor's name."""
        return await _run(self._matching, lambda: function(*arguments, **named))

    async def read(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run work that reads a few bytes."""
        return await _run(self._reading, lambda: function(*arguments, **named))

    def close(self) -> None:
        """Start no more work."""
        for pool in (self._deriving, self._matching, self._reading):
            pool.shutdown(wait=False, cancel_futures=True)


async def _run(pool: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, function)
