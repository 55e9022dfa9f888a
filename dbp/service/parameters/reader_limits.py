"""Limits of concurrent reads, per client and in total."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Final, final

from dbp.errors import TooManyReaders

READS_PER_CLIENT: Final = 256
READS: Final = 1_024
STREAMS_PER_CLIENT: Final = 64
STREAMS: Final = 1_024
WATCHES_PER_CLIENT: Final = 2_048
WATCHES: Final = 16_384


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
