"""Tokens reach only the programs that may have them: the route of each call of a client."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from dbp.access.places import Places
from dbp.errors import InvalidInput, Unavailable
from dbp.rpc import bearer
from dbp.rpc.bearer import NoListener
from dbp.rpc.channel import connect
from dbp.rpc.credentials import Credentials
from dbp.v1 import job_service_pb2 as pb
from dbp.v1.job_service_pb2_grpc import (
    JobServiceServicer,
    JobServiceStub,
    add_JobServiceServicer_to_server,
)

TOKEN = Credentials(token="dbp1_secret")
SENT = [("authorization", "Bearer dbp1_secret")]


@dataclass
class Program(JobServiceServicer):
    """A server that keeps what callers send; it answers with ``code``."""

    calls: list[list[tuple[str, str]]] = field(default_factory=list)
    code: grpc.StatusCode | None = None

    async def ListJobs(self, request: Any, context: Any) -> pb.ListJobsResponse:  # noqa: N802
        sent = [(k, v) for k, v in context.invocation_metadata() if k == "authorization"]
        self.calls.append(sent)
        if self.code is not None:
            await context.abort(self.code, "not now")
        return pb.ListJobsResponse()


@dataclass
class Machine:
    """A service's places, what listens at its socket, and what listens at its port."""

    places: Places
    own: Program
    at_port: Program
    port: int

    @property
    def address(self) -> str:
        """The address that a client is given."""
        return f"127.0.0.1:{self.port}"


@pytest.fixture
async def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Machine]:
    runtime, state = tmp_path / "r", tmp_path / "state"
    runtime.mkdir(0o700)
    state.mkdir(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    places, own, at_port = Places(state), Program(), Program()
    server, other = grpc.aio.server(), grpc.aio.server()
    add_JobServiceServicer_to_server(own, server)
    add_JobServiceServicer_to_server(at_port, other)
    before = os.umask(0o077)
    server.add_insecure_port(f"unix:{places.socket}")
    os.umask(before)
    port = other.add_insecure_port("127.0.0.1:0")
    await server.start()
    await other.start()
    yield Machine(places, own, at_port, port)
    await server.stop(None)
    await other.stop(None)
    places.close()


async def call(address: str, credentials: Credentials | None = None) -> None:
    async with connect(address, credentials) as channel:
        await JobServiceStub(channel).ListJobs(pb.ListJobsRequest())


@pytest.mark.parametrize("credentials", [Credentials(), TOKEN])
async def test_calls_to_the_users_own_service_use_its_socket_and_not_the_port(
    machine: Machine, credentials: Credentials
) -> None:
    machine.places.note_port(machine.port, Path("/owner.token"))

    await call(machine.address, credentials)

    assert machine.at_port.calls == []
    assert machine.own.calls == [SENT if credentials.token else []]


async def test_a_client_made_before_its_service_finds_the_socket_later(
    machine: Machine,
) -> None:
    async with connect(machine.address) as channel:
        stub = JobServiceStub(channel)
        await stub.ListJobs(pb.ListJobsRequest())
        machine.places.note_port(machine.port, Path("/owner.token"))
        await stub.ListJobs(pb.ListJobsRequest())

    assert machine.at_port.calls == [[]], "without a token"
    assert machine.own.calls == [[]]


async def test_the_user_at_the_port_is_checked_for_every_call(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [{os.geteuid()}, {os.geteuid(), 4321}]
    monkeypatch.setattr(bearer, "listening_users", lambda _: users.pop(0))
    async with connect(machine.address, TOKEN) as channel:
        stub = JobServiceStub(channel)
        await stub.ListJobs(pb.ListJobsRequest())
        with pytest.raises(Unavailable, match="belongs to uid 4321, not to you or root"):
            await stub.ListJobs(pb.ListJobsRequest())

    assert machine.at_port.calls == [SENT]


async def test_a_token_is_not_sent_again_to_whatever_listens_by_then(machine: Machine) -> None:
    machine.at_port.code = grpc.StatusCode.UNAVAILABLE

    with pytest.raises(grpc.aio.AioRpcError, match="not now"):
        await call(machine.address, TOKEN)

    assert machine.at_port.calls == [SENT]


async def test_calls_without_a_token_are_tried_again(machine: Machine) -> None:
    machine.at_port.code = grpc.StatusCode.UNAVAILABLE

    with pytest.raises(grpc.aio.AioRpcError, match="not now"):
        await call(machine.address)

    assert len(machine.at_port.calls) > 1


async def test_no_token_is_sent_where_the_system_does_not_say_who_listens(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bearer, "listening_users", lambda _: None)

    with pytest.raises(InvalidInput, match=r"no /proc/net/tcp.*unix:PATH.*DBP_CA_FILE"):
        await call(machine.address, TOKEN)
    await call(machine.address)

    assert machine.at_port.calls == [[]]


async def test_a_port_at_which_no_program_listens_is_noticed_before_the_call(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bearer, "listening_users", lambda _: set())

    for credentials in (None, TOKEN):
        with pytest.raises(NoListener, match="connection refused"):
            await call(machine.address, credentials)

    assert machine.at_port.calls == []


async def test_a_service_that_begins_to_listen_after_the_first_look_is_found(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begins(_: int) -> set[int]:
        machine.places.note_port(machine.port, Path("/owner.token"))
        return {os.geteuid()}

    monkeypatch.setattr(bearer, "listening_users", begins)

    await call(machine.address)

    assert (len(machine.own.calls), machine.at_port.calls) == (1, [])


async def test_a_stranger_at_the_port_of_ones_killed_service_gets_no_call(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bearer, "listening_users", lambda _: {4321})
    await call(machine.address)  # such as a service of theirs
    machine.places.note_port(machine.port, Path("/owner.token"))
    monkeypatch.setattr(bearer, "service_at", lambda _: None)

    with pytest.raises(Unavailable, match="uid 4321, not to you or root, so no call is made"):
        await call(machine.address)

    assert len(machine.at_port.calls) == 1


async def test_a_socket_that_others_can_open_gets_no_call(machine: Machine) -> None:
    machine.places.note_port(machine.port, Path("/owner.token"))
    machine.places.socket.chmod(0o666)

    with pytest.raises(Unavailable, match="must be closed to other users"):
        await call(machine.address, TOKEN)

    assert machine.own.calls == machine.at_port.calls == []


async def test_a_socket_that_is_named_is_checked_too(machine: Machine) -> None:
    machine.places.socket.chmod(0o666)

    with pytest.raises(Unavailable, match="must be closed to other users"):
        await call(f"unix:{machine.places.socket}")

    assert machine.own.calls == []


async def test_the_service_of_a_configured_user_is_called_at_its_port(
    machine: Machine,
) -> None:
    """The note may be of one's own service that was killed and held the port before."""
    machine.places.note_port(machine.port, Path("/owner.token"))
    user = pwd.getpwuid(os.geteuid()).pw_name

    await call(machine.address, Credentials(token="dbp1_secret", user=user))

    assert machine.own.calls == []
    assert machine.at_port.calls == [SENT]


@pytest.mark.parametrize("found", [["127.0.0.1", "192.0.2.1"], ["192.0.2.1"]])
def test_localhost_is_this_machine_only_if_all_its_addresses_are(
    monkeypatch: pytest.MonkeyPatch, found: list[str]
) -> None:
    entries = [(0, 0, 0, "", (address, 0)) for address in found]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)

    assert not bearer.is_loopback("localhost")
