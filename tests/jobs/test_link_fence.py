"""The fence of links: only the newest link of a run calls."""

from __future__ import annotations

import asyncio

import pytest

from dbp.errors import WrongState
from dbp.jobs.link_fence import LinkFence, LinkNumber

FIRST, SECOND = LinkNumber(1, 1), LinkNumber(1, 2)


def test_a_link_that_was_replaced_may_not_call() -> None:
    fence = LinkFence()

    assert not fence.advance("job", FIRST)
    assert fence.advance("job", SECOND)
    assert not fence.advance("job", SECOND)

    with pytest.raises(WrongState, match="job: link 1 of attempt 1 was replaced"):
        fence.advance("job", FIRST)
    with pytest.raises(WrongState, match="was replaced"):
        fence.check("job", FIRST)
    fence.check("job", SECOND)


def test_links_of_a_newer_attempt_are_newer() -> None:
    fence = LinkFence()
    fence.advance("job", LinkNumber(1, 7))

    assert fence.advance("job", LinkNumber(2, 1))

    with pytest.raises(WrongState):
        fence.advance("job", LinkNumber(1, 8))


def test_a_job_does_not_fence_another() -> None:
    fence = LinkFence()
    fence.advance("job", SECOND)

    fence.advance("other", FIRST)
    fence.check("other", FIRST)


async def test_a_call_under_way_ends_when_a_newer_link_calls() -> None:
    fence = LinkFence()
    fence.advance("job", FIRST)
    entered = asyncio.Event()
    after: list[str] = []

    async def call(link: LinkNumber) -> None:
        async with fence.call("job", link):
            entered.set()
            await asyncio.sleep(3600)
            after.append("stored")

    old = asyncio.create_task(call(FIRST))
    await entered.wait()
    entered.clear()
    fence.advance("job", SECOND)
    new = asyncio.create_task(call(SECOND))
    await entered.wait()

    with pytest.raises(WrongState, match="was replaced"):
        await old
    assert not new.done()
    assert not after
    new.cancel()
    with pytest.raises(asyncio.CancelledError):
        await new
    with pytest.raises(WrongState, match="was replaced"):
        await call(FIRST)


async def test_a_timeout_inside_a_call_stays_a_timeout() -> None:
    fence = LinkFence()

    with pytest.raises(TimeoutError):
        async with fence.call("job", FIRST):
            raise TimeoutError


async def test_a_call_that_has_ended_is_not_cancelled() -> None:
    fence = LinkFence()
    async with fence.call("job", FIRST):
        pass

    fence.advance("job", FIRST)
    fence.advance("job", SECOND)
    await asyncio.sleep(0)


def test_the_links_of_an_ended_job_are_forgotten() -> None:
    fence = LinkFence()
    fence.advance("job", SECOND)

    fence.end("job")

    fence.advance("job", FIRST)
