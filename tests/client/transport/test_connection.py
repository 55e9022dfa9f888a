"""A call is made again where no program listens, and not for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from google.protobuf.empty_pb2 import Empty

from dbp.client.transport.connection import RESTART_SECONDS, Connection
from dbp.errors import Unavailable
from dbp.rpc.bearer import NoListener
from tests.random_pauses import as_long_as_allowed


@pytest.fixture
async def connection(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connection]:
    monkeypatch.setattr("dbp.client.transport.connection.FIRST_PAUSE_SECONDS", 0.002)
    monkeypatch.setattr("dbp.client.transport.connection.LAST_PAUSE_SECONDS", 0.008)
    made = Connection("127.0.0.1:1", timeout=10.0, patience=1.0)
    yield made
    await made.channel.close()


class Restarting:
    """A method of a service that nothing listens for at first."""

    def __init__(self, refusals: int) -> None:
        self._refusals = refusals
        self.calls = 0

    async def __call__(self, _: Empty, *, timeout: float) -> str:
        self.calls += 1
        if self.calls <= self._refusals:
            raise NoListener("nothing listens")
        return "answer"


async def test_a_service_that_is_restarted_is_called_again_after_random_pauses(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = as_long_as_allowed(monkeypatch)

    assert await connection.call(Restarting(3), Empty(), None) == "answer"

    assert drawn == [0.002, 0.004, 0.008]


async def test_a_service_that_stays_away_is_reported(connection: Connection) -> None:
    method = Restarting(10**9)
    begun = time.monotonic()

    with pytest.raises(Unavailable, match="nothing listens"):
        await connection.call(method, Empty(), None)

    assert method.calls > 4
    assert time.monotonic() - begun >= RESTART_SECONDS


async def test_every_call_waits_for_a_restart_of_half_a_second() -> None:
    """However short its random pauses are."""
    connection = Connection("127.0.0.1:1", timeout=10.0, patience=1.0)
    back = time.monotonic() + 0.5

    async def method(_: Empty, *, timeout: float) -> str:
        if time.monotonic() < back:
            raise NoListener("nothing listens")
        return "answer"

    calls = (connection.call(method, Empty(), None) for _ in range(100))

    assert await asyncio.gather(*calls) == ["answer"] * 100
    await connection.channel.close()
