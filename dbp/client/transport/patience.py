"""Delays and time limit for reopening a broken stream; logs of outages."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Final, TypeAlias, final

from dbp.errors import DeadlineExceeded, Unavailable
from dbp.quantities import duration_text
from dbp.rpc.backoff import Backoff

log = logging.getLogger("dbp.client")

FIRST_WAIT_SECONDS: Final = 0.1
LAST_WAIT_SECONDS: Final = 2.0
# A service that restarts within this time is not logged.
QUIET_SECONDS: Final = 5.0

# Called with the error of every break, and with None for every message that arrives.
Report: TypeAlias = Callable[[Unavailable | None], None]


@final
class Patience:
    """Delays between tries: their limit doubles, and starts over after a message."""

    def __init__(self, seconds: float, report: Report | None = None) -> None:
        """``report``: receives the error of a break and its end; by default they are logged."""
        self._seconds = seconds
        self._report = report or _LoggedOutage(seconds)
        self._backoff = Backoff(FIRST_WAIT_SECONDS, LAST_WAIT_SECONDS)
        self._since: float | None = None

    def heard(self) -> None:
        """Note a message without news: the service is alive."""
        self._report(None)

    def alive(self) -> None:
        """Note progress: the next break is waited for as long as the first."""
        self._backoff.restart()
        self._since = None
        self._report(None)

    async def again(self, error: Unavailable) -> None:
        """Wait before the next try; raise ``error`` when the time is up."""
        now = asyncio.get_running_loop().time()
        self._since = now if self._since is None else self._since
        pause = self._backoff.next()
        if now - self._since + pause >= self._seconds:
            raise error
        self._report(error)
        await asyncio.sleep(pause)


@final
class _LoggedOutage:
    """Logs one line when an outage lasts, and one when it is over."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._since: float | None = None
        self._logged = False

    def __call__(self, error: Unavailable | None) -> None:
        if error is None:
            if self._logged:
                log.info("the service answers again")
            self._since, self._logged = None, False
            return
        now = asyncio.get_running_loop().time()
        self._since = now if self._since is None else self._since
        lasts = isinstance(error, DeadlineExceeded) or now - self._since >= QUIET_SECONDS
        if lasts and not self._logged:
            self._logged = True
            limit = f"for up to {duration_text(self._patience)}"
            if math.isinf(self._patience):
                limit = "until it answers"
            log.warning("%s; trying again %s", error, limit)
