"""A local copy of a job's newest parameters, updated in the background. For asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import replace
from typing import Final, NoReturn, Self, final

from dbp.client.arguments import seconds, whole_number
from dbp.client.async_parameters import AsyncParameters
from dbp.client.parameter_set import ParameterSet, parameter_set
from dbp.client.transport.calls import not_picklable
from dbp.client.wanted import Wanted
from dbp.errors import (
    ClientClosed,
    DbpError,
    InvalidFile,
    InvalidInput,
    LabelNotFound,
    NotFound,
    NotPublishedYet,
    Unavailable,
)
from dbp.job.labels import is_news, moves_back, outlives_job
from dbp.rpc.backoff import Backoff
from dbp.rpc.forking import check_not_forked, client_forked, is_forked

log = logging.getLogger("dbp.client")

POLL_SECONDS: Final = 60.0
LABEL_POLL_SECONDS: Final = 5.0  # the service waits for a label that was removed
PATIENCE_SECONDS: Final = 5.0  # for the rest of a version; then it is requested again
FIRST_PAUSE_SECONDS: Final = 0.05
LAST_PAUSE_SECONDS: Final = 2.0


@final
class AsyncParameterMirror:
    """The newest parameters of a job; ``get`` never waits and takes no lock.

    A version that was returned is never changed; a newer one has arrays of its own. While the
    service is gone or frozen, the last version stays and ``error`` is set: at most 15 seconds
    after the service's last message, until the mirror is up to date again. ``error`` is set,
    too, while a label that the mirror follows is at no version: within 5 seconds.
    """

    def __init__(
        self, parameters: AsyncParameters, wanted: Wanted, timeout: float | None = None
    ) -> None:
        """Prepare a mirror; see AsyncJobHandle.mirror for ``timeout``."""
        self._parameters = parameters
        self._timeout = None if timeout is None else seconds("timeout", timeout)
        self._wanted = wanted
        self._newest: ParameterSet | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.skipped = 0
        self.ended = False
        self._error: DbpError | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __reduce__(self) -> NoReturn:
        raise not_picklable(self)

    def start(self) -> None:
        """Start following the job; does nothing if started. Raises WrongEventLoop."""
        check_not_forked()
        self._parameters.check_loop()
        if self._task is None:
            self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop following the job; the last parameters stay available."""
        if self._task is not None and not is_forked():
            self._task.cancel()
            await asyncio.wait([self._task])

    def get(self) -> ParameterSet | None:
        """Return the newest version that has arrived whole and verified; None before the first.

        ClientForked in a process forked since, where no newer one would ever arrive.
        """
        check_not_forked()
        return self._newest

    @property
    def error(self) -> DbpError | None:
        """The present fault; None while the mirror is up to date."""
        return client_forked() if is_forked() else self._error

    @property
    def version(self) -> int:
        """Number of the newest version here; 0 before the first."""
        newest = self._newest
        return newest.version.version if newest is not None else 0

    async def wait(self, newer_than: int = 0, timeout: float | None = None) -> ParameterSet:
        """Return the newest version once it is newer than this; TimeoutError.

        The mirror of a label returns the label's version once it is another one than
        ``newer_than``: a label may move to an earlier version.

        Raises ``error`` where the mirror has given up, ClientClosed where it was closed, and
        InvalidInput where it was not started, or no newer version will come because the job
        has ended.
        """
        check_not_forked()
        self._parameters.check_loop()
        newer_than = whole_number("newer_than", newer_than)
        if timeout is not None:
            seconds("timeout", timeout)
        try:
            async with asyncio.timeout(timeout):
                return await self._newer(newer_than)
        except TimeoutError:
            why = f"; {self._error}" if self._error is not None else ""
            raise TimeoutError(
                f"mirror: no version {self._other_than(newer_than)} came within "
                f"{timeout:g} s{why}"
            ) from None

    async def _newer(self, newer_than: int) -> ParameterSet:
        if self._task is None:
            raise InvalidInput(
                "the mirror has not been started: use it in a `with` block, or call start()"
            )
        while True:
            changed, newest = self._changed, self._newest
            if newest is not None and self._is_news(newest, newer_than):
                return newest
            if self._task.done():
                raise self._why_no_more(newer_than)
            await changed.wait()

    def _why_no_more(self, newer_than: int) -> DbpError:
        if self.ended:
            where = f"at version {self.version}" if self.version else "without a version"
            return InvalidInput(
                f"newer_than: the job has ended {where}, none {self._other_than(newer_than)} "
                "will come"
            )
        return self._error or ClientClosed("the mirror has been closed")

    async def _follow(self) -> None:
        backoff = Backoff(FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS)
        try:
            while not self.ended:
                asked = time.monotonic()
                try:
                    newer = await self._next()
                    self._error = None
                except DbpError as error:
                    newer, self._error = False, error
                    if isinstance(error, NotPublishedYet | LabelNotFound):
                        await self._note_end(error)
                    elif _is_for_good(error):
                        return
                if newer:
                    backoff.restart()
                elif self._waits() and time.monotonic() - asked < LAST_PAUSE_SECONDS:
                    await asyncio.sleep(backoff.next())
        except Exception as error:  # no caller awaits this task; ``error`` reports it
            self._error = DbpError(f"the mirror has failed: {type(error).__name__}: {error}")
            log.exception("a mirror has failed")
        finally:
            self._changed.set()

    def _waits(self) -> bool:
        return not self.ended

    async def _next(self) -> bool:
        """Receive the next version; False if none comes for a while."""
        known = self.version
        # The first request for a label does not wait: a misspelt one is soon reported.
        first = bool(self._wanted.label) and not known and self._error is None
        poll = LABEL_POLL_SECONDS if self._wanted.label else POLL_SECONDS
        wait = 0.0 if first else poll
        wanted = replace(self._wanted, newer_than=known, wait=wait)
        found = await self._parameters.receive(
            wanted, self._timeout, patience=PATIENCE_SECONDS, report=self._note
        )
        if found.content is None or found.version is None:
            self.ended = found.job_ended and not outlives_job(self._wanted.label)
            return False
        newest = await asyncio.to_thread(parameter_set, found.version, found.content)
        self.skipped += wanted.skipped(newest.version)
        self._newest = newest
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return True

    def _note(self, error: Unavailable | None) -> None:
        """Store the error of a break at once; a message from the service clears it."""
        if error is not None or isinstance(self._error, Unavailable):
            self._error = error

    async def _note_end(self, error: DbpError) -> None:
        """Check whether the job ended without a version, or without a best one."""
        if isinstance(error, LabelNotFound) and outlives_job(self._wanted.label):
            return
        with contextlib.suppress(DbpError):
            if await self._parameters.has_ended():
                self.ended, self._error = True, None

    def _other_than(self, known: int) -> str:
        return f"{'other than' if moves_back(self._wanted.label) else 'above'} {known}"

    def _is_news(self, found: ParameterSet, known: int) -> bool:
        return is_news(found.version.version, known, self._wanted.label)


def _is_for_good(error: DbpError) -> bool:
    """Whether the error is permanent; after a damaged version a good one may follow."""
    if isinstance(error, InvalidFile):
        return False
    return isinstance(error, InvalidInput | NotFound | ClientClosed)
