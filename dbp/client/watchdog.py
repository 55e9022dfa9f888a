"""End the wait for a late message; one timer serves all messages of a stream."""

from __future__ import annotations

import asyncio
from typing import Final, final

# A timer that is later than this shows that this process itself was paused.
LATE_SECONDS: Final = 1.0


@final
class Watchdog:
    """Expires the scope of a wait, as ``asyncio.timeout`` does, but not for a pause of its own.

    After Ctrl-Z and fg, or a callback that blocked the event loop, the limit starts again:
    messages may have arrived that the loop has not seen yet.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._scope: asyncio.Timeout | None = None
        self._seconds = self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, scope: asyncio.Timeout, seconds: float) -> None:
        """Expire the scope after this many seconds."""
        self._scope, self._seconds = scope, seconds
        self._due = self._loop.time() + seconds
        if self._timer is not None and self._timer.when() > self._due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._arm()

    def rest(self) -> None:
        """Expire nothing until the next ``watch``; keep the timer."""
        self._scope = None

    def stop(self) -> None:
        """Cancel the timer for good."""
        self._scope = None
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        self._timer = self._loop.call_at(self._due, self._expire, self._due)

    def _expire(self, planned: float) -> None:
        self._timer = None
        if self._scope is None:
            return
        now = self._loop.time()
        if now - planned >= LATE_SECONDS:
            self._due = now + self._seconds
        if now < self._due:
            self._arm()
        else:
            self._scope.reschedule(now)
