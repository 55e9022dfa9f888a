"""Let only the newest link of a run call. No network code.

Rank 0 replaces a link that has died or is stopped, and numbers its links. Calls of an older
link may still be on their way, and a stopped one may continue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn, final

from dbp.errors import WrongState


@dataclass(frozen=True, order=True)
class LinkNumber:
    """Number of a link within the attempts of its job; newer ones are greater.

    Attributes:
        attempt: Number of the attempt.
        generation: Number of the link within the attempt, from 1; 0 from a run that has one
            link for its whole life.
    """

    attempt: int
    generation: int = 0


@final
class LinkFence:
    """The newest link of each live run, and the calls that end when a newer one comes."""

    def __init__(self) -> None:
        self._newest: dict[str, LinkNumber] = {}  # by job
        self._calls: dict[str, set[asyncio.Timeout]] = {}

    def advance(self, job_id: str, link: LinkNumber) -> bool:
        """Note a call of this link; end the calls of older ones if it is new.

        Returns:
            Whether the link replaces an older one.

        Raises:
            WrongState: a newer link has called before.
        """
        before = self._newest.get(job_id)
        if before is not None and link < before:
            _refuse(job_id, link)
        self._newest[job_id] = link
        if before is None or link == before:
            return False
        for call in self._calls.pop(job_id, ()):
            call.reschedule(0.0)  # in the past: at once
        return True

    def check(self, job_id: str, link: LinkNumber) -> None:
        """Raise WrongState if a newer link has called."""
        newest = self._newest.get(job_id)
        if newest is not None and link < newest:
            _refuse(job_id, link)

    @asynccontextmanager
    async def call(self, job_id: str, link: LinkNumber) -> AsyncIterator[None]:
        """Cancel the body when a newer link calls; WrongState then, and if one has called."""
        self.check(job_id, link)
        try:
            async with asyncio.timeout(None) as limit:
                self._calls.setdefault(job_id, set()).add(limit)
                try:
                    yield
                finally:
                    self._discard(job_id, limit)
        except TimeoutError:
            if not limit.expired():
                raise
            _refuse(job_id, link)

    def end(self, job_id: str) -> None:
        """Forget the links of a job that has ended."""
        self._newest.pop(job_id, None)

    def _discard(self, job_id: str, call: asyncio.Timeout) -> None:
        calls = self._calls.get(job_id, set())
        calls.discard(call)
        if not calls:
            self._calls.pop(job_id, None)


def _refuse(job_id: str, link: LinkNumber) -> NoReturn:
    raise WrongState(
        f"job {job_id}: link {link.generation} of attempt {link.attempt} was replaced"
    )
