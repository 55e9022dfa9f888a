"""Requests of the service to one connected run (stop, publish). No network code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self, final


@dataclass(frozen=True)
class Request:
    """A request to a run."""

    stop: bool = False
    publish: bool = False


@dataclass
class AppliedReports:
    """The newest report of an attempt that was applied, by sequence; its connections share it.

    A link that lost an answer sends reports again.
    """

    newest: int = 0


@final
class RunConnection:
    """The connection of one run's rank 0: a queue of requests, equal ones merged. Iterate it to
    send them. Iteration ends when a newer connection replaces this one, or when the service
    shuts down.
    """

    def __init__(self, job_id: str, attempt: int, applied: AppliedReports) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.applied = applied
        self._stop = False
        self._publish = False
        self._closed = False
        self._changed = asyncio.Event()

    def ask(self, *, stop: bool = False, publish: bool = False) -> None:
        """Add a request; returns immediately."""
        self._stop |= stop
        self._publish |= publish
        self._changed.set()

    def close(self) -> None:
        """End the iteration; later requests are dropped."""
        self._closed = True
        self._changed.set()

    def __aiter__(self) -> AsyncIterator[Request]:
        return self

    async def __anext__(self) -> Request:
        while not (self._stop or self._publish):
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        request = Request(self._stop, self._publish)
        self._stop = self._publish = False
        return request

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
