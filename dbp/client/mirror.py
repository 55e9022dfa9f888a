"""A local copy of a job's newest (or labelled) parameters, updated in the background."""

from __future__ import annotations

import contextlib
from typing import NoReturn, Self, final

from dbp.client.async_mirror import AsyncParameterMirror
from dbp.client.loop_thread import LoopThread
from dbp.client.parameter_set import ParameterSet
from dbp.client.transport.calls import not_picklable
from dbp.errors import ClientClosed, ClientForked, DbpError


@final
class ParameterMirror:
    """The newest parameters for any thread; see ``AsyncParameterMirror``.

    ``get`` reads one reference: it never waits, takes no lock and makes no call.
    """

    def __init__(self, loop: LoopThread, mirror: AsyncParameterMirror) -> None:
        self._loop = loop
        self._mirror = mirror

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start following the job; does nothing if started."""

        async def starting() -> None:
            self._mirror.start()

        self._loop.run(starting())

    def close(self) -> None:
        """Stop following the job; the last parameters stay available."""
        # A client that was closed has ended it; that of a process forked since is the parent's.
        with contextlib.suppress(ClientClosed, ClientForked):
            self._loop.run(self._mirror.close())

    def get(self) -> ParameterSet | None:
        """Return the newest version that has arrived whole and verified; None before the first.

        ClientForked in a process forked since, where no newer one would ever arrive.
        """
        return self._mirror.get()

    def wait(self, newer_than: int = 0, timeout: float | None = None) -> ParameterSet:
        """Return the newest version once it is newer than ``newer_than``; TimeoutError."""
        return self._loop.run(self._mirror.wait(newer_than, timeout))

    def __reduce__(self) -> NoReturn:
        raise not_picklable(self)

    @property
    def version(self) -> int:
        """Number of the newest version here; 0 before the first."""
        return self._mirror.version

    @property
    def skipped(self) -> int:
        """Number of versions that were published and never arrived here."""
        return self._mirror.skipped

    @property
    def ended(self) -> bool:
        """Whether the job has ended, so that nothing newer will come."""
        return self._mirror.ended

    @property
    def error(self) -> DbpError | None:
        """The present fault; None while there is none."""
        return self._mirror.error
