"""Errors within a link: bad messages, programming errors and unreadable memory end it."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dbp.link.messages import LaunchedRun
from tests.deadline import DEADLINE
from tests.link.scripted_service import OUTCOME, STARTED, Scripted, filled, linked


@pytest.mark.parametrize(
    "line",
    [b"no JSON\n", b'{"Snapshot": {}}\n', b'{"TrainingStarted": {"world_size": "1"}}\n'],
)
async def test_a_line_that_is_no_message_ends_the_link_with_an_error(line: bytes) -> None:
    async with linked(Scripted()) as far:
        far.write(line)

        with pytest.raises(ValueError, match=r"Expecting value|no such message|of type int"):
            await far.close()


async def test_a_second_configuration_is_an_error() -> None:
    async with linked(Scripted()) as far:
        far.send(LaunchedRun("service.json", "digits-2", 1, 1, "s", speaks_of_flags=False))

        with pytest.raises(ValueError, match="LaunchedRun: the link is configured"):
            await far.close()


def broken(*_: object, **__: object) -> Any:
    """A programming error, in place of a function of the link."""
    raise RuntimeError("a programming error")


async def broken_stream(*_: object) -> AsyncIterator[Any]:
    nothing: tuple[Any, ...] = ()
    for each in nothing:
        yield each
    raise RuntimeError("a programming error")


@pytest.mark.parametrize(
    ("place", "double"),
    [
        ("session.decode", broken),  # reads rank 0's messages
        ("session.Link._attach", broken),
        ("session.Link._reports", broken_stream),  # gRPC drops the exceptions of these two
        ("upload.Publisher._parts", broken_stream),
        ("outbox.Outbox.acknowledge", broken),
        ("upload.Publisher.publish", broken),
    ],
)
async def test_an_unforeseen_error_in_any_task_ends_the_link(
    monkeypatch: pytest.MonkeyPatch, place: str, double: Any
) -> None:
    service = Scripted()
    async with linked(service) as far:
        monkeypatch.setattr(f"dbp.link.{place}", double)
        far.send(STARTED, filled(3), OUTCOME)

        async with asyncio.timeout(DEADLINE):  # though rank 0 lives and keeps the pipe open
            with pytest.raises(RuntimeError, match="a programming error"):
                await far.ended


async def test_memory_that_cannot_be_read_ends_the_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is no sign of a service that is away, which would be asked for ever."""

    def unreadable(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    service = Scripted()
    async with linked(service) as far:
        monkeypatch.setattr("dbp.link.upload.os.pread", unreadable)
        far.send(STARTED, filled(3))

        async with asyncio.timeout(DEADLINE):
            with pytest.raises(OSError, match="Input/output error"):
                await far.ended


async def test_an_unforeseen_error_while_the_rest_is_delivered_ends_the_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with linked(Scripted()) as far:
        monkeypatch.setattr("dbp.link.outbox.Outbox.drained", broken)
        far.send(STARTED, OUTCOME)

        with pytest.raises(RuntimeError, match="a programming error"):
            await far.close()


async def test_a_task_that_is_cancelled_from_within_ends_the_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def cancelled(*_: object) -> bool:
        raise asyncio.CancelledError

    async with linked(Scripted()) as far:
        monkeypatch.setattr("dbp.link.upload.Publisher.publish", cancelled)
        far.send(STARTED, filled(3))

        async with asyncio.timeout(DEADLINE):
            with pytest.raises(RuntimeError, match="publishing: cancelled from within"):
                await far.ended
