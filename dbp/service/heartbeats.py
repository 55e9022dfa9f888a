"""Signs of life while an answer is prepared: readers notice a frozen service within seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any


async def silences(work: asyncio.Task[Any], seconds: float) -> AsyncGenerator[None, None]:
    """Yield after every ``seconds`` until ``work`` is done.

    Leaving early cancels the work and waits for its end.
    """
    try:
        while not (await asyncio.wait((work,), timeout=seconds))[0]:
            yield
    finally:
        if not work.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
