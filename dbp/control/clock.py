"""Time as an argument, so that tests need not wait for it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, final


class Clock(Protocol):
    """What the control plane asks of time."""

    def time(self) -> float:
        """Unix seconds, for records."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; not affected by steps of the wall clock."""
        ...


@final
class SystemClock:
    """The machine's time."""

    def time(self) -> float:
        """Unix seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop's monotonic clock."""
        await asyncio.sleep(seconds)
