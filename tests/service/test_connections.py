"""Connections that say nothing, or are too many, are closed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest

from dbp.rpc.channel import SERVER_OPTIONS
from dbp.service import server
from tests.deadline import DEADLINE
from tests.http2 import PING, PREFACE, SETTINGS, frame
from tests.service.setups import serving, until


def change(monkeypatch: pytest.MonkeyPatch, **milliseconds: int) -> None:
    """Give limits that the service sets other values; one that it lacks stays unset."""
    changed = (
        (name, milliseconds.get(name.removeprefix("grpc."), value))
        for name, value in SERVER_OPTIONS
    )
    monkeypatch.setattr(server, "SERVER_OPTIONS", tuple(changed))


async def opened(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def test_a_connection_without_a_handshake_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = 10**9
    change(monkeypatch, server_handshake_timeout_ms=200, keepalive_time_ms=never)
    async with serving(tmp_path / "state") as service:
        reader, writer = await opened(service.address)
        async with asyncio.timeout(60):  # gRPC itself waits for 120 s
            await reader.read()
        writer.close()


async def test_a_connection_without_a_call_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch, max_connection_idle_ms=200)
    async with (
        serving(tmp_path / "state") as service,
        grpc.aio.insecure_channel(service.address) as channel,
    ):
        await asyncio.wait_for(channel.channel_ready(), DEADLINE)
        await until(lambda: channel.get_state() is not grpc.ChannelConnectivity.READY)


async def test_a_client_that_pings_often_stays_connected(tmp_path: Path) -> None:
    ping, answer = (frame(PING, flags, 0, b"dbp-ping") for flags in (0, 1))
    async with serving(tmp_path / "state") as service:
        reader, writer = await opened(service.address)
        writer.write(PREFACE + frame(SETTINGS, 0, 0))
        for sent in (100, 200, 300):
            writer.write(ping * 100)
            received = b""
            async with asyncio.timeout(DEADLINE):
                while received.count(answer) < 100:
                    received += (some := await reader.read(1 << 16))
                    assert some, f"closed after {sent} pings"
        writer.close()


async def test_a_connection_beyond_the_limit_is_closed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "max_connections", lambda: 2)
    change(monkeypatch, server_handshake_timeout_ms=5_000)
    async with serving(tmp_path / "state") as service:
        connections = [await opened(service.address) for _ in range(3)]
        reads = [asyncio.create_task(reader.read()) for reader, _ in connections]
        done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)

        assert done == {reads[2]}
        for _, writer in connections:
            writer.close()
        await asyncio.gather(*reads, return_exceptions=True)
