"""The clock as an argument, so that tests do not wait."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, final


class Clock(Protocol):
    """Time as the control package uses it."""

    def time(self) -> float:
        """Return Unix seconds, for records."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; steps of the wall clock have no effect."""
        ...


@final
class SystemClock:
    """The clock of the machine: wall time, and the event loop's monotonic sleep."""

    def time(self) -> float:
        """Return Unix seconds, for records."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop's monotonic clock."""
        await asyncio.sleep(seconds)
