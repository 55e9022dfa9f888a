"""Limits of concurrent readers, and their threads, apart from those in which runs publish."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar, final

from dbp.errors import TooManyReaders

READS_PER_CLIENT: Final = 256
READS: Final = 1_024
STREAMS_PER_CLIENT: Final = 64
STREAMS: Final = 1_024
WATCHES_PER_CLIENT: Final = 2_048
WATCHES: Final = 16_384

DERIVING: Final = 2
MATCHING: Final = 2
READING: Final = 4

P = ParamSpec("P")
T = TypeVar("T")


@final
class ReaderLimits:
    """Counts concurrent reads; a client is one connection."""

    def __init__(self, what: str, per_client: int, together: int) -> None:
        self._what = what
        self._per_client = per_client
        self._together = together
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def taken(self, client: str) -> Iterator[None]:
        """Count one more read in this context; TooManyReaders."""
        if self._open[client] >= self._per_client:
            raise TooManyReaders(
                f"{self._open[client]} {self._what} are open on this connection, at most "
                f"{self._per_client} are allowed; close some"
            )
        if self._open.total() >= self._together:
            raise TooManyReaders(
                f"{self._together} {self._what} are open in all, which is the limit; try later"
            )
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]


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
