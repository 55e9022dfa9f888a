"""Service addresses: their form, and which one counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbp.access.places import socket_path
from dbp.client.async_client import AsyncClient
from dbp.client.client import Client
from dbp.errors import InvalidInput, Unavailable
from dbp.rpc.address import parse_address, service_address


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("127.0.0.1:5327", ("127.0.0.1", 5327)),
        (" node-1.cluster:80 ", ("node-1.cluster", 80)),
        ("[::1]:65535", ("[::1]", 65535)),
        ("localhost:1", ("localhost", 1)),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, parsed: tuple[str, int]) -> None:
    assert parse_address(address) == parsed


@pytest.mark.parametrize(
    "address",
    [
        "", "localhost", ":5327", "localhost:", "localhost:x", "::1:5327", "http://a:1",
        "a/b:1", "unix:/tmp/x:1", "a b:1", "localhost:\u00b2", "localhost:\u0663", "a:-1",
        "a:" + "9" * 5000,
    ],
)  # fmt: skip
def test_malformed_addresses_are_refused_with_an_example(address: str) -> None:
    with pytest.raises(InvalidInput, match=r"expected HOST:PORT or unix:PATH, such as 127\."):
        parse_address(address)


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_a_port_must_be_in_its_range(port: str) -> None:
    with pytest.raises(InvalidInput, match="1 to 65535"):
        parse_address(f"localhost:{port}")


def test_the_argument_counts_before_the_variable_and_that_before_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DBP_SERVICE", "node-1:80")
    assert service_address("node-2:81") == "node-2:81"
    assert service_address(" [::1]:082\n") == "[::1]:82", "without spaces and zeros"
    assert service_address() == "node-1:80"
    (tmp_path / "service.json").write_text('{"address": "node-3:82", "socket": "unix:/s"}')
    monkeypatch.setenv("DBP_STATE", str(tmp_path))
    monkeypatch.setenv("DBP_SERVICE", "")
    assert service_address() == "unix:/s"
    monkeypatch.delenv("DBP_SERVICE")
    assert service_address() == "unix:/s"


def test_the_socket_of_a_service_that_is_down_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DBP_SERVICE", raising=False)
    monkeypatch.setenv("DBP_STATE", str(tmp_path))
    assert service_address() == f"unix:{socket_path(tmp_path)}"

    # Commands that need no service resolve the address, too.
    monkeypatch.setenv("DBP_STATE", str(tmp_path / "none"))
    with Client() as client, pytest.raises(Unavailable, match="start it with `dbp serve`"):
        next(client.jobs())


@pytest.mark.parametrize("address", ["unix:relative", "unix:", "unix:/" + "a" * 107])
def test_a_socket_needs_a_short_absolute_path(address: str) -> None:
    with pytest.raises(InvalidInput, match="absolute path of at most 107 bytes"):
        service_address(address)


def test_both_forms_of_a_socket_are_the_same() -> None:
    assert service_address(" unix:///run/dbp.sock\n") == "unix:/run/dbp.sock"


async def test_both_clients_use_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBP_SERVICE", "127.0.0.1:1")

    with Client() as client:
        assert client.address == "127.0.0.1:1"
    async with AsyncClient() as client:
        assert client.address == "127.0.0.1:1"
    with Client("127.0.0.1:2") as client:
        assert client.address == "127.0.0.1:2"


def test_a_malformed_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBP_SERVICE", "nowhere")

    with pytest.raises(InvalidInput, match=r"\$DBP_SERVICE: expected HOST:PORT .*'nowhere'"):
        Client()
