"""A local copy of a job's parameters that keeps itself fresh. For asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Self, final

from dbp.client.async_parameters import AsyncParameters, Wanted
from dbp.client.parameter_set import ParameterSet, parameter_set
from dbp.errors import DbpError, InvalidInput, NotFound, NotPublishedYet

POLL_SECONDS: Final = 60.0
PATIENCE_SECONDS: Final = 5.0  # for the rest of a version; then it is asked for anew
FIRST_PAUSE_SECONDS: Final = 0.05
LAST_PAUSE_SECONDS: Final = 2.0


@final
class AsyncParameterMirror:
    """The newest parameters, at hand: ``get`` never waits and takes no lock.

    A version that has been handed out is never changed; a newer one has arrays of its own.
    While the service is away the last one stays, and ``error`` says what is wrong.
    """

    def __init__(
        self, parameters: AsyncParameters, patterns: tuple[str, ...], cast: str | None
    ) -> None:
        self._parameters = parameters
        self._patterns = patterns
        self._cast = cast
        self._newest: ParameterSet | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.skipped = 0
        self.ended = False
        self.error: DbpError | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to follow the job; again: does nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Follow no longer; what was got stays."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def get(self) -> ParameterSet | None:
        """The newest version that has arrived whole and verified; None before the first."""
        return self._newest

    @property
    def version(self) -> int:
        """The number of the newest version here; 0 before the first."""
        newest = self._newest
        return newest.version.version if newest is not None else 0

    async def wait(self, newer_than: int = 0, timeout: float | None = None) -> ParameterSet:
        """The newest version once it is newer than this; TimeoutError.

        Raises ``error`` where the mirror has given up, and InvalidInput where no newer version
        will come, for the job has ended.
        """
        async with asyncio.timeout(timeout):
            while True:
                changed, newest = self._changed, self._newest
                if newest is not None and newest.version.version > newer_than:
                    return newest
                if self._task is not None and self._task.done():
                    raise self.error or InvalidInput(
                        f"newer_than: the job has ended at version {self.version}, "
                        f"none above {newer_than} will come"
                    )
                await changed.wait()

    async def _follow(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        try:
            while not self.ended:
                try:
                    await self._next()
                    pause, self.error = FIRST_PAUSE_SECONDS, None
                except DbpError as error:
                    self.error = error
                    if isinstance(error, InvalidInput) or (
                        isinstance(error, NotFound) and not isinstance(error, NotPublishedYet)
                    ):
                        return  # it will never be otherwise
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LAST_PAUSE_SECONDS)
        finally:
            self._changed.set()

    async def _next(self) -> None:
        """Take the next version, or nothing where none comes for a while."""
        told = self.version
        wanted = Wanted(self._patterns, newer_than=told, wait=POLL_SECONDS, cast=self._cast)
        found = await self._parameters.receive(wanted, patience=PATIENCE_SECONDS)
        if found.content is not None and found.version is not None:
            newest = await asyncio.to_thread(parameter_set, found.version, found.content)
            self.skipped += newest.version.version - told - 1 if told else 0
            self._newest = newest
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
        else:
            self.ended = found.job_ended
