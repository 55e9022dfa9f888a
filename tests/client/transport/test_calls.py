"""A stream's messages are late only where the service is, not where this process paused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from dbp.client.transport.calls import listen
from dbp.errors import DeadlineExceeded
from tests.deadline import DEADLINE


def late(limit: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"late by {limit:g}")


async def received(
    source: AsyncIterator[int], limit: Callable[[], float] = lambda: 0.3
) -> list[int]:
    async with asyncio.timeout(DEADLINE):
        return [message async for message in listen(source, limit, late)]


async def test_messages_pass_until_one_is_late() -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0.01)
            yield number
        await asyncio.sleep(DEADLINE)

    messages = listen(source(), lambda: 0.3, late)

    assert [await anext(messages) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DeadlineExceeded, match=r"late by 0\.3"):
        await anext(messages)


async def test_each_message_has_its_own_limit() -> None:
    limits = iter([DEADLINE, 0.2])

    async def source() -> AsyncIterator[int]:
        await asyncio.sleep(0.4)
        yield 1
        await asyncio.sleep(DEADLINE)

    with pytest.raises(DeadlineExceeded, match=r"late by 0\.2"):
        await received(source(), lambda: next(limits))


async def test_a_reader_that_takes_its_time_is_not_the_service() -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async for _ in listen(source(), lambda: 0.05, late):
        await asyncio.sleep(0.2)


async def test_a_pause_of_the_process_itself_is_no_silence_of_the_service() -> None:
    loop = asyncio.get_running_loop()

    async def source() -> AsyncIterator[int]:
        loop.call_later(0.1, time.sleep, 2)  # as Ctrl-Z and fg
        await asyncio.sleep(0.5)  # arrives in the pause
        yield 1

    assert await received(source()) == [1]


async def test_the_limit_starts_again_after_a_pause() -> None:
    loop = asyncio.get_running_loop()

    async def source() -> AsyncIterator[int]:
        loop.call_later(0.1, time.sleep, 2)
        await asyncio.sleep(DEADLINE)
        yield 1

    began = loop.time()
    with pytest.raises(DeadlineExceeded):
        await received(source())
    assert loop.time() - began >= 2.3


async def test_a_reader_that_is_cancelled_meanwhile_is_cancelled() -> None:
    async def source() -> AsyncIterator[int]:
        await asyncio.sleep(DEADLINE)
        yield 1

    task = asyncio.create_task(received(source(), lambda: DEADLINE))
    await asyncio.sleep(0.05)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
