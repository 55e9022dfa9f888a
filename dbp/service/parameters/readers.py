"""Limits of concurrent readers, and their threads, apart from those in which runs publish."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar, final

from dbp.access.places import UNIX
from dbp.access.principal import CALLER
from dbp.errors import TooManyReaders

# At once, of all callers. A connection has at most MAX_STREAMS calls of all kinds.
READS: Final = 1_024
STREAMS: Final = 1_024
STREAMS_PER_CONNECTION: Final = 64
WATCHES: Final = 16_384

DERIVING: Final = 2
MATCHING: Final = 2
READING: Final = 4

P = ParamSpec("P")
T = TypeVar("T")


@final
class ReaderLimits:
    """Counts concurrent reads: of a connection over TCP, of an owner, and of all callers.

    Connections over a Unix socket look alike; the limit of their owner holds.
    """

    def __init__(self, what: str, together: int, per_connection: int | None = None) -> None:
        """An owner may have half of ``together``, so that others can read, too.

        ``per_connection``: None: as many as the connection has calls.
        """
        self._what = what
        self._per_connection = per_connection
        self._per_owner = max(per_connection or 1, together // 2)
        self._together = together
        self._open: Counter[tuple[str, str]] = Counter()  # by owner, by connection
        self._all = 0

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Count one more read of the present caller in this context; TooManyReaders."""
        caller = CALLER.get()
        keys = [("owner", caller.owner)]
        self._check(self._open[keys[0]], self._per_owner, f"by {caller.owner or 'this caller'}")
        if self._per_connection is not None and not caller.origin.startswith(UNIX):
            keys.append(("connection", caller.origin))
            self._check(self._open[keys[1]], self._per_connection, "on this connection")
        if self._all >= self._together:
            raise TooManyReaders(
                f"{self._together} {self._what} are open in all, which is the limit; try later"
            )
        self._all += 1
        self._open.update(keys)
        try:
            yield
        finally:
            self._all -= 1
            for key in keys:
                self._open[key] -= 1
                if not self._open[key]:
                    del self._open[key]

    def _check(self, found: int, limit: int, where: str) -> None:
        if found >= limit:
            raise TooManyReaders(
                f"{found} {self._what} are open {where}, at most {limit} are allowed; "
                "close some"
            )


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
